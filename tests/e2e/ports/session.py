# One FTP session that goes on while the routing stack is told not to give this host new connections.
import ftplib, hashlib, io, os, sys, time

host, directory, wanted = sys.argv[1], sys.argv[2], sys.argv[3]


def fetched(session, name):
    into = io.BytesIO()
    session.retrbinary(f"RETR {name}", into.write)
    return into.getvalue()


for _ in range(60):
    session = ftplib.FTP()
    session.connect(host, 21, timeout=30)
    session.login()
    if fetched(session, "who").decode().strip() == wanted:
        break
    session.quit()
else:
    sys.exit(f"no session with {wanted}")
open(f"{directory}/begun", "w").close()
while not os.path.exists(f"{directory}/drained"):
    time.sleep(0.05)
for number in range(5):
    big = fetched(session, "big")
    session.storbinary(f"STOR pub/again-{number}", io.BytesIO(big))
print(hashlib.sha256(big).hexdigest(), fetched(session, "who").decode().strip())
session.quit()
