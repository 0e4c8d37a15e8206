//! A protocol in which the server speaks first: the router of `examples/imap/` knows the user before the connection moves.
//! The clients are curl and Python's imaplib, the servers Dovecot's.

use lab::spec::DVIPA;
use lab::{Lab, Spec, maildir};

use crate::fixture::{SOON, lab};

/// C3, C4, C7, C8: the logged-in connection moves with its state to the host of the user's mailbox, where Dovecot goes on with it; the
/// client sees one session.
#[test]
#[ignore = "needs root"]
fn a_logged_in_connection_is_handed_to_the_host_of_the_mailbox() {
    let tables = lab::spec::ipv4_only(&["ports = [143]\ndestip = \"all\"\ncontent_routed = true"]);
    let lab = lab(Spec::content_routed().vipadynamic(tables));
    let dvipa = DVIPA.0.to_string();
    let users = ["imap", "router", "143", &dvipa, "--", "alice:s3cret=north", "bob:hunter2=south"];
    lab.start_application("rt1", "router", &users).expect("the router starts");
    let mail = |stack: &str| lab.files().join(format!("mail-{stack}"));
    for (job, stack, user) in [("north", "t1", "alice"), ("south", "t2", "bob")] {
        for subject in ["One", "Two"] {
            let message = format!("Subject: {subject}\r\n\r\nThe mailbox of {user} is on {stack}.\r\n");
            maildir::deliver(&mail(stack).join(user), &message).expect("it is delivered");
        }
        let mail = mail(stack).display().to_string();
        lab.start_application(stack, job, &["imap", "target", job, "143", &dvipa, &mail])
            .expect("a target starts");
    }
    wait_for_mail_hosts(&lab);
    let at_client = lab.capture("client", "eth0", "tcp port 143").expect("a capture");
    let url = format!("imap://{dvipa}/INBOX;MAILINDEX=1");
    for (user, said) in [("alice:s3cret", "alice is on t1."), ("bob:hunter2", "bob is on t2.")] {
        let message = lab.client().run(&["curl", "-sS", "--max-time", "20", "-u", user, &url]);
        let message = message.unwrap_or_else(|e| panic!("{e}"));
        assert!(message.contains(&format!("The mailbox of {said}")), "{message}");
    }
    let script = format!(
        "import imaplib\nc = imaplib.IMAP4('{dvipa}', 143, timeout=20)\nprint(c.login('alice', 's3cret')[0])\n\
         print(c.select('INBOX')[1][0], c.append('INBOX', None, None, b'Subject: Three\\r\\n\\r\\nhello\\r\\n')[0])\n\
         print(c.noop()[0], c.search(None, 'SUBJECT', 'Three')[1], c.fetch('3', '(BODY[TEXT])')[1][0][1], c.logout()[0])\n"
    );
    let said = lab.client().run(&["python3", "-c", &script]).unwrap_or_else(|e| panic!("{e}"));
    assert_eq!(said, "OK\nb'2' OK\nOK [b'3'] b'hello\\r\\n' BYE\n");
    let new = mail("t1").join("alice/Maildir");
    assert_eq!(
        lab.host("t1").sh(&format!("grep -rl Three {}/cur {0}/new | wc -l", new.display())).unwrap(),
        "1\n"
    );
    let lines = at_client.stop().and_then(|c| c.packets("tcp port 143")).expect("the capture ends");
    assert_eq!(lines.iter().filter(|l| l.contains("Flags [S]")).count(), 3, "a connection each: {lines:#?}");
    assert!(lines.iter().all(|l| !l.contains("Flags [R")), "no RST: {lines:#?}");
}

fn wait_for_mail_hosts(lab: &Lab) {
    let wanted = [("rt1", "listening"), ("t1", "transfer-only"), ("t2", "transfer-only")];
    lab.wait_for("the router and both mail hosts", SOON, || {
        let rows = lab.dpt().map_err(|e| e.to_string())?;
        let is = |(stack, state): &(&str, &str)| {
            rows.iter().flat_map(|r| &r.targets).any(|t| t.target == *stack && t.state == *state)
        };
        if wanted.iter().all(is) { Ok(()) } else { Err(format!("{rows:#?}")) }
    })
    .unwrap_or_else(|e| panic!("{e}"));
}
