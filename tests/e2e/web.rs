//! What operators see: the web page in a browser.

mod browser;

use std::io::Write;

use lab::spec::RoutingNode;
use lab::{Lab, Spec, client};
use nix::sys::signal::Signal;

use self::browser::Browser;
use crate::fixture::{SOON, connect, dvipa4, established, lab, web4};

const URL: &str = "http://127.0.0.1:9480/";

/// The cell of a table in the row that begins with these words, as an expression of JavaScript.
fn cell(table: &str, first: &str, column: usize) -> String {
    format!(
        "[...document.querySelectorAll('#{table} tbody tr')].find(r => r.innerText.startsWith('{first}'))?.cells[{column}]?.innerText"
    )
}

fn button(label: &str) -> String {
    format!("document.querySelector('button[aria-label=\"{label}\"]')")
}

/// Waits until the target has this state in the DPT.
fn until_state(lab: &Lab, target: &str, state: &str) {
    lab.wait_for(&format!("{target} to be {state}"), SOON, || {
        let answer = lab.baton_json(&["dpt"]).map_err(|e| e.to_string())?;
        let targets = answer["services"][0]["targets"].as_array().cloned().unwrap_or_default();
        let is_so = targets.iter().any(|t| t["target"] == target && t["state"] == state);
        if is_so { Ok(()) } else { Err(format!("{targets:#?}")) }
    })
    .unwrap_or_else(|e| panic!("{e}"));
}

/// B5: who opens the page in a browser sees services, targets, connections, drops with what they mean and events as they are and as
/// they change, also after a restart of batond; with the token a stack is drained and resumed, a weight set and a connection moved, with
/// mouse or keyboard; narrow windows and dark colours work.
#[test]
#[ignore = "needs root"]
fn an_operator_sees_and_steers_in_a_browser() {
    let lab = lab(Spec::default());
    let mut page = Browser::open(&lab, "rt1", URL, (1280, 900));
    page.until("document.title == 'baton rt1'");
    page.until("document.querySelector('#live').innerText == 'live'");
    for target in ["t1", "t2", "t3"] {
        page.until(&format!("{} == 'up'", cell("t-stacks", target, 1)));
    }
    page.until("[...document.querySelectorAll('#t-targets tbody tr')].filter(r => r.innerText.includes('listening')).length >= 6");
    page.until(&format!("{} == 'rt1'", cell("t-dvipas", "198.18.9.1", 2)));

    // What changes is seen, without anything being touched.
    let connections: Vec<_> = (0..6).map(|_| connect(&lab, web4())).collect();
    for target in ["t1", "t2", "t3"] {
        page.until(&format!("{} == '2'", cell("t-stacks", target, 3)));
    }
    page.until("document.querySelectorAll('#chart path').length == 3");
    page.until("document.querySelector('#legend').innerText.includes('t2 2')");
    let _ = client::ask(lab.client(), dvipa4(81));
    page.until(&format!("{} == '1'", cell("t-drops", "refused_reset", 2)));
    page.until(&format!("({}).includes('TCP reset')", cell("t-drops", "refused_reset", 4)));
    page.until("document.querySelector('#t-events').innerText.includes('target-came')");
    page.picture("light");

    // With the mouse: the token is asked for first, and a wrong one is no use.
    page.click(&button("Drain t1"));
    page.until("document.querySelector('#dialog-title').innerText == 'Unlock orders'");
    page.type_in("no token");
    page.press("Enter");
    page.until("document.querySelector('#dialog-error').innerText.includes('web.token')");
    page.click("document.querySelector('#dialog-fields input')");
    page.read("document.querySelector('#dialog-fields input').select()");
    let token = std::fs::read_to_string(lab.files().join("web.token")).expect("a token");
    page.type_in(&token);
    page.press("Enter");
    page.until("document.querySelector('#dialog-title').innerText == 'Drain t1'");
    page.picture("dialog");
    page.click("document.querySelector('#dialog-do')");
    page.until("!document.querySelector('#dialog').open");
    until_state(&lab, "t1", "draining");
    page.until(&format!("{} == 'draining'", cell("t-stacks", "t1", 8)));
    page.until("document.querySelector('#t-events').innerText.includes('drained')");

    // With the keyboard alone.
    page.read("document.querySelector('.skip').focus()");
    let mut tabs = 0;
    while page.read("document.activeElement?.ariaLabel") != "Resume t1" {
        page.press("Tab");
        tabs += 1;
        assert!(tabs < 100, "the button is not reached");
    }
    page.press("Enter");
    page.until("document.querySelector('#dialog').open");
    page.press("Escape");
    page.until("!document.querySelector('#dialog').open");
    until_state(&lab, "t1", "draining");
    page.press("Enter");
    page.until("document.querySelector('#dialog-do').innerText == 'Resume' && document.querySelector('#dialog').open");
    page.press("Enter");
    until_state(&lab, "t1", "listening");

    page.click(&button("Set the weight of t2 for 198.18.9.1:80/tcp"));
    page.until("document.querySelector('#dialog').open");
    page.read("document.querySelector('#dialog-fields input').select()");
    page.type_in("0");
    page.press("Enter");
    until_state(&lab, "t2", "weight-zero");

    // A connection is looked up and moved.
    let (mut connection, at) =
        connections.into_iter().find(|(_, at)| at == "t2").expect("round robin gave t2 some");
    let client = established(&lab, &connection).client;
    page.click("document.querySelector('#look input[name=client]')");
    page.type_in(&client);
    page.press("Enter");
    page.click(&button(&format!("Move {client}")));
    page.until("!!document.querySelector('#dialog select')");
    page.read("document.querySelector('#dialog select').value = 't3'");
    page.click("document.querySelector('#dialog-do')");
    page.until(&format!("{} == 't3'", cell("t-connections", &client, 2)));
    assert_eq!((connection.target().expect("it goes on").as_str(), at.as_str()), ("t3", "t2"));
    page.until("document.querySelector('#t-moved').innerText.includes('injected')");

    page.read("document.activeElement.blur()");
    page.press("/");
    page.type_in("t3");
    page.until("[...document.querySelectorAll('#t-stacks tbody tr')].length == 1");
    page.read("(() => { const f = document.querySelector('#filter'); f.value = ''; f.dispatchEvent(new Event('input')); })()");
    page.darken(true);
    page.picture("dark");
    page.resize((380, 800));
    page.until("document.documentElement.scrollWidth <= 380");
    page.picture("narrow");
    assert_eq!(page.complaints(), &[] as &[serde_json::Value], "errors of scripts, or of the page's policy");

    lab.stop(RoutingNode::First.batond(), Signal::SIGTERM).expect("it ends");
    page.until("document.querySelector('#live').innerText.includes('trying again')");
    lab.start_batond().expect("it starts");
    page.until("document.querySelector('#live').innerText == 'live'");
    page.until(&format!("{} == 'up'", cell("t-stacks", "t3", 1)));
}

/// B5: `baton top` shows in a terminal what the page shows, follows what changes and its keys, and prints one frame without a terminal.
#[test]
#[ignore = "needs root"]
fn an_operator_sees_the_same_in_a_terminal() {
    let lab = lab(Spec::default());
    let connections: Vec<_> = (0..3).map(|_| connect(&lab, web4())).collect();
    connections.iter().for_each(|(connection, _)| drop(established(&lab, connection)));
    let frame = |words: &[&str]| lab.baton(&[&["top", "--once"][..], words].concat()).expect("a frame");
    let services = frame(&[]);
    let is_listening = |line: &&str| line.contains("198.18.9.1:80") && line.contains("listening");
    assert_eq!(services.lines().filter(is_listening).count(), 3, "{services}");
    assert!(services.contains("connections 3 ") && services.contains("stacks up 3 of 3"), "{services}");

    let mut terminal = Terminal::open(&lab, "top");
    terminal.until(&["1 Services", "listening", "stacks up 3 of 3"]);
    terminal.press("2");
    terminal.until(&["SESSION", "LISTENS"]);
    lab.baton(&["drain", "t2"]).expect("an order");
    terminal.until(&["draining"]);
    terminal.press("5");
    terminal.until(&["drained", "by an operator's order"]);
    let _ = client::ask(lab.client(), dvipa4(81));
    terminal.press("3");
    terminal.until(&["refused_reset", "AT FAULT"]);
    terminal.press("/no such word\r");
    terminal.until(&["filter: no such word"]);
    // Not Esc: what is read together with the next key is another key.
    terminal.press(&format!("/{}\r", "\x7f".repeat(12)));
    terminal.until(&["refused_reset"]);
    terminal.press("q");
    terminal.ends();
    drop(connections);
}

/// A terminal of 120 columns in which `baton` runs.
struct Terminal {
    child: std::process::Child,
    log: std::path::PathBuf,
    read: usize,
}

/// What is shown, without what moves the cursor (ECMA-48 5.4) and without spaces, over which it is moved too.
fn shown(written: &[u8]) -> String {
    let (mut shown, mut is_sequence) = (String::new(), false);
    for c in String::from_utf8_lossy(written).chars() {
        match c {
            '\u{1b}' => is_sequence = true,
            '[' | ' ' | '\r' | '\n' => {}
            _ if is_sequence => is_sequence = !c.is_ascii_alphabetic(),
            _ => shown.push(c),
        }
    }
    shown
}

impl Drop for Terminal {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Terminal {
    fn open(lab: &Lab, command: &str) -> Self {
        let log = lab.files().join("terminal");
        let baton = lab.program("baton").expect("it is built");
        let line = format!(
            "stty cols 120 rows 40; exec {} --socket {} {command}",
            baton.display(),
            lab.socket().display()
        );
        let file = std::fs::File::create(&log).expect("a file");
        let mut script = lab.host("rt1").command("script");
        script.args(["-qec", &line, "/dev/null"]).env("TERM", "xterm-256color");
        let child = script.stdin(std::process::Stdio::piped()).stdout(file).spawn().expect("it starts");
        Self { child, log, read: 0 }
    }

    fn press(&mut self, keys: &str) {
        self.read = self.written().len();
        self.child.stdin.as_mut().expect("a pipe").write_all(keys.as_bytes()).expect("it reads");
    }

    fn written(&self) -> Vec<u8> {
        std::fs::read(&self.log).expect("what it wrote")
    }

    /// Waits until a whole frame has all of these words: otherwise only what differs from the frame before is written.
    fn until(&mut self, words: &[&str]) {
        const REDRAW: &str = "\x0c";
        let begun = std::time::Instant::now();
        loop {
            self.press(REDRAW);
            std::thread::sleep(std::time::Duration::from_millis(200));
            let text = shown(&self.written()[self.read..]);
            if words.iter().all(|word| text.contains(&word.replace(' ', ""))) {
                return;
            }
            assert!(begun.elapsed() < SOON * 2, "{words:?} are not all in {text:?}");
        }
    }

    fn ends(mut self) {
        assert!(self.child.wait().expect("it ends").success());
    }
}
