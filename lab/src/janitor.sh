# Removes one lab. $1 is its record directory, $2 is `wait` to begin when standard input ends: the lab's owner holds the
# other end of it, so whatever becomes of the owner, Ctrl-C and kill -9 included, the lab goes with it.
dir=$1
[ "$2" = wait ] && cat >/dev/null
[ -e "$dir/keep" ] && [ "$2" = wait ] && exit 0
[ -e "$dir/record" ] || exit 0

# First all processes, in whichever namespace: a program that outlives its peer by a moment writes a misleading log.
for round in 1 2 3 4 5; do
    pids=$(while read -r kind what; do [ "$kind" = netns ] && ip netns pids "$what" 2>/dev/null; done <"$dir/record")
    [ -z "$pids" ] && break
    kill -9 $pids 2>/dev/null
    sleep 0.05
done
while read -r kind what; do
    case $kind in
    netns) ip netns del "$what" 2>/dev/null ;;
    mount) umount -l "$what" 2>/dev/null ;;
    files) files=$what ;;
    esac
done <"$dir/record"
# The files go last: as long as they are there, no other lab gets this one's id.
[ -e "$dir/failed" ] && files=
rm -rf "$dir"
rm -rf "$files"
