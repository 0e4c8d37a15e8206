//! The examples with clients that nobody here wrote, on one host: a fake stack moves the connections between real
//! applications by their descriptors. In a whole cluster they run in `e2e`.

/// Its own tests run here: an example that is built as a test is not there as a program.
#[path = "../examples/postgresql/startup.rs"]
mod startup;

use std::env;
use std::fs;
use std::net::TcpListener;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use agent::control_socket::fake::FakeStack;
use lab::maildir;
use tempfile::TempDir;

/// The DVIPA: an address that every machine has.
const DVIPA: &str = "127.0.0.1";
/// Nothing here takes that long unless it hangs.
const LONG: Duration = Duration::from_secs(20);

/// A stack, and an example's programs on it.
struct Host {
    programs: Vec<Child>,
    stack: FakeStack,
    example: PathBuf,
    port: String,
    directory: TempDir,
}

impl Host {
    fn start(example: &str) -> Self {
        let directory = tempfile::tempdir().expect("a directory");
        let stack = FakeStack::start(&directory.path().join("applications.sock")).expect("a stack");
        let test = env::current_exe().expect("this test has a path");
        let built = test.parent().and_then(|deps| deps.parent()).expect("in target/PROFILE/deps");
        let free = TcpListener::bind((DVIPA, 0)).expect("a port");
        let port = free.local_addr().expect("an address").port().to_string();
        let example = built.join("examples").join(example);
        assert!(example.exists(), "{}: build it first: cargo build --examples", example.display());
        Self { programs: Vec::new(), stack, example, port, directory }
    }

    fn run(&mut self, words: &[&str]) {
        let mut command = Command::new(&self.example);
        command.args(words).env("BATON_CONTROL_SOCKET", self.stack.path()).stdin(Stdio::null());
        self.programs.push(command.spawn().expect("the example starts"));
    }

    fn url(&self, scheme: &str, path: &str) -> String {
        format!("{scheme}://{DVIPA}:{}{path}", self.port)
    }
}

impl Drop for Host {
    fn drop(&mut self) {
        for program in &mut self.programs {
            // It may have ended by itself.
            let _ = program.kill();
            let _ = program.wait();
        }
    }
}

/// What a command prints.
fn output(program: &str, words: &[&str]) -> String {
    let output = Command::new(program).args(words).output().expect("it starts");
    String::from_utf8_lossy(&output.stdout).into_owned()
}

fn curl(words: &[&str]) -> String {
    output("curl", &[&["-s", "--max-time", "20"], words].concat())
}

/// Asks until the answer is the wanted one: programs take a moment to start.
fn until(wanted: &str, ask: impl Fn() -> String) {
    let deadline = Instant::now() + LONG;
    loop {
        let answer = ask();
        if answer == wanted {
            return;
        }
        assert!(Instant::now() < deadline, "instead of {wanted:?}: {answer:?}");
        thread::sleep(Duration::from_millis(20));
    }
}

#[test]
fn http_is_routed_by_content_and_moves_on_in_the_middle_of_an_answer() {
    let mut host = Host::start("http");
    let port = host.port.clone();
    let rules =
        ["images=host:images", "images=path:/images/", "more=cookie:kind=more", "reject=path:/no", "files"];
    host.run(&[&["router", &port, DVIPA, "--"], &rules[..]].concat());
    for job in ["files", "images", "more", "reject", "taken"] {
        host.run(&[&["target", job, &port, DVIPA, "--"], &rules[..]].concat());
    }
    let url = |path: &str| host.url("http", path);
    until("files@here has /\n", || curl(&[&url("/")]));
    until("images@here has /images/1\n", || curl(&[&url("/images/1")]));
    until("more@here has /2\n", || curl(&["-b", "a=b; kind=more", &url("/2")]));
    assert_eq!(curl(&["-H", "Host: images:80", &url("/2")]), "images@here has /2\n");
    until("503", || curl(&["-o", "/dev/null", "-w", "%{http_code}", &url("/no")]));

    // Requests for another target, on the same connection.
    let three = curl(&["-w", "%{num_connects}\n", &url("/1"), &url("/images/2"), &url("/3")]);
    assert_eq!(three, "files@here has /1\n1\nimages@here has /images/2\n0\nfiles@here has /3\n0\n");
    // And one that comes in pieces.
    let script = format!(
        "import socket, time\n\
         s = socket.create_connection(('{DVIPA}', {port}), 20)\n\
         for piece in (b'GET /ima', b'ges/4 HTTP/1.1\\r\\nHo', b'st: x\\r\\n\\r\\n'):\n\
         \x20   s.sendall(piece); time.sleep(0.3)\n\
         s.shutdown(socket.SHUT_WR)\n\
         print(s.makefile().read().splitlines()[-1])\n"
    );
    assert_eq!(output("python3", &["-c", &script]), "images@here has /images/4\n");

    let bytes = "3000001";
    let wanted = Command::new(&host.example).args(["content", bytes]).output().expect("it starts").stdout;
    let path = format!("/download/{bytes}?via=more@here,nobody@here,taken@here,images@here,files@here");
    let got =
        Command::new("curl").args(["-s", "--max-time", "20", &url(&path)]).output().expect("curl starts");
    assert!(got.stdout == wanted, "{} bytes of {}", got.stdout.len(), wanted.len());
}

#[test]
fn imap_clients_are_logged_in_where_their_mailbox_is() {
    let mut host = Host::start("imap");
    let port = host.port.clone();
    host.run(&["router", &port, DVIPA, "--", "alice:s3 cret=north", "bob:hunter2=south", "eve:x=nowhere"]);
    let mail = host.directory.path().to_owned();
    // Dovecot serves the homes' owner.
    fs::set_permissions(&mail, fs::Permissions::from_mode(0o755)).expect("it is ours");
    let message =
        |user: &str| format!("To: {user}@mail.example\r\nSubject: Welcome\r\n\r\nThis is yours.\r\n");
    for (job, user) in [("north", "alice"), ("south", "bob")] {
        let mail = mail.join(job);
        maildir::deliver(&mail.join(user), &message(user)).expect("it is delivered");
        host.run(&["target", job, &port, DVIPA, &mail.to_string_lossy()]);
    }
    let inbox = host.url("imap", "/INBOX");
    let read = |user: &str| curl(&["-u", user, &format!("{inbox};MAILINDEX=1")]);
    until(&message("alice"), || read("alice:s3 cret"));
    until(&message("bob"), || read("bob:hunter2"));
    assert_eq!(read("bob:wrong"), "", "not logged in");
    assert_eq!(read("eve:x"), "", "no host has the mailbox");
    // What is said before the login was answered moves along.
    let script = format!(
        "import socket\n\
         s = socket.create_connection(('{DVIPA}', {port}), 20)\n\
         s.sendall(b'a LOGIN alice \"s3 cret\"\\r\\nb EXAMINE INBOX\\r\\nc LOGOUT\\r\\n')\n\
         print(*(line.split()[0].decode() for line in s.makefile('rb') if line[0] != ord('*')))\n"
    );
    assert_eq!(output("python3", &["-c", &script]), "a b c\n");
}
