# The second part of a guest's start, on the machine's own file system; the first is in the initramfs that scripts/guest makes.
# $guest, $kernel, $scripts, $run, $bind, $hugepages and $network come from the lab. Then it does what it is told on the second serial port:
# a line with a number runs the script of that number; the answer is the number and the exit status.
PATH=/usr/sbin:/usr/bin:/sbin:/bin
export PATH
exec </dev/null
mkdir -p /dev/hugepages "$run"
mount -t hugetlbfs none /dev/hugepages
mount -t cgroup2 none /sys/fs/cgroup
mount -t bpf none /sys/fs/bpf
for module in af_packet veth tun vhost_net uio_pci_generic vfio-pci virtio_net sch_ingress cls_bpf inet_diag tcp_diag udp_diag \
    nf_tables nf_conntrack nft_fwd_netdev sch_multiq cls_flower act_skbedit act_gact act_mirred \
    bridge nf_conntrack_netlink nft_chain_nat nft_nat nft_masq nft_fib_ipv4 nft_fib_ipv6 nft_fib_inet nft_ct; do
    "$guest/tools/modprobe" -d "$kernel/root" $module 2>/dev/null
done
for page in $(seq 20); do
    echo "$hugepages" >/proc/sys/vm/nr_hugepages
    [ "$(cat /proc/sys/vm/nr_hugepages)" = "$hugepages" ] && break
done
[ -z "$bind" ] || for device in /sys/bus/pci/devices/*; do
    case $(cat $device/class) in
    0x0200*)
        echo "$bind" >$device/driver_override
        [ ! -e $device/driver ] || echo ${device##*/} >$device/driver/unbind
        echo ${device##*/} >/sys/bus/pci/drivers_probe
        echo "NIC ${device##*/}: $(cat $device/vendor $device/device | tr '\n' ' ')bound to $(readlink $device/driver | sed 's/.*\///')"
        ;;
    esac
done
ip link set lo up
eval "$network"
stty -F /dev/ttyS1 raw -echo
exec 3<>/dev/ttyS1
echo "0 0" >&3
while read -r number <&3; do
    sh "$scripts/$number.sh" >"$scripts/$number.out" 2>&1
    echo "$number $?" >&3
done
