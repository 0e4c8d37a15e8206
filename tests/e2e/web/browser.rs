//! A headless Chromium on a host of the lab, spoken to in its DevTools protocol over a pipe.

use std::fs::File;
use std::io::{BufRead, BufReader, Write};
use std::process::{Child, ChildStdin, ChildStdout, Stdio};
use std::time::{Duration, Instant};

use lab::Lab;
use serde_json::{Value, json};

use crate::fixture::SOON;

/// `--remote-debugging-pipe` reads from descriptor 3 and writes to 4.
const SCRIPT: &str = "exec chromium --headless=new --no-sandbox --disable-gpu --disable-dev-shm-usage --no-first-run \
    --disable-background-networking --user-data-dir=\"$1\" --remote-debugging-pipe about:blank 3<&0 4>&1 0</dev/null 1>/dev/null";

/// A browser with one tab.
pub(crate) struct Browser {
    child: Child,
    to: ChildStdin,
    from: BufReader<ChildStdout>,
    last: u64,
    session: Value,
    /// Errors of scripts, and what the page's policy has forbidden.
    complaints: Vec<Value>,
}

impl Drop for Browser {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Browser {
    /// Opens a page in a window of this size.
    pub(crate) fn open(lab: &Lab, host: &str, url: &str, size: (u32, u32)) -> Self {
        let home = lab.files().join("chromium");
        let log = File::create(lab.files().join("chromium.log")).expect("a log");
        let mut command = lab.host(host).command("sh");
        command.args(["-c", SCRIPT, "sh"]).arg(&home).env("HOME", lab.files());
        let spawned = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(log).spawn();
        let mut child = spawned.expect("chromium starts");
        let (to, from) = (child.stdin.take().expect("a pipe"), child.stdout.take().expect("a pipe"));
        let (from, session) = (BufReader::new(from), Value::Null);
        let mut browser = Self { child, to, from, last: 0, session, complaints: Vec::new() };
        let tab = browser.call("Target.createTarget", json!({"url": "about:blank"}));
        let attached = json!({"targetId": tab["targetId"], "flatten": true});
        browser.session = browser.call("Target.attachToTarget", attached)["sessionId"].clone();
        for domain in ["Page", "Runtime", "Log"] {
            browser.call(&format!("{domain}.enable"), json!({}));
        }
        browser.resize(size);
        browser.call("Page.navigate", json!({"url": url}));
        browser
    }

    /// Calls a method and returns its result.
    fn call(&mut self, method: &str, parameters: Value) -> Value {
        self.last += 1;
        let mut call = json!({"id": self.last, "method": method, "params": parameters});
        if !self.session.is_null() {
            call["sessionId"] = self.session.clone();
        }
        let mut text = call.to_string().into_bytes();
        text.push(0);
        self.to.write_all(&text).expect("chromium reads");
        loop {
            let mut text = Vec::new();
            self.from.read_until(0, &mut text).expect("chromium writes");
            assert_eq!(text.pop(), Some(0), "chromium has ended: its log says why");
            let message: Value = serde_json::from_slice(&text).expect("JSON");
            match message["method"].as_str() {
                Some("Runtime.exceptionThrown") => self.complaints.push(message["params"].clone()),
                // Refused orders are entries of the source `network`.
                Some("Log.entryAdded") if message["params"]["entry"]["source"] != "network" => {
                    self.complaints.push(message["params"]["entry"]["text"].clone());
                }
                _ => {}
            }
            if message["id"] == self.last {
                assert!(message["error"].is_null(), "{method}: {message}");
                return message["result"].clone();
            }
        }
    }

    /// What an expression is in the page.
    pub(crate) fn read(&mut self, expression: &str) -> Value {
        let answer = self.call("Runtime.evaluate", json!({"expression": expression, "returnByValue": true}));
        assert!(answer["exceptionDetails"].is_null(), "{expression}: {answer}");
        answer["result"]["value"].clone()
    }

    /// Waits until an expression is true.
    pub(crate) fn until(&mut self, expression: &str) {
        let begun = Instant::now();
        while self.read(expression) != true {
            if begun.elapsed() > SOON * 2 {
                panic!("{expression} does not become true:\n{}", self.read("document.body.innerText"));
            }
            std::thread::sleep(Duration::from_millis(50));
        }
    }

    /// Clicks with the mouse where the element is, once it is there.
    pub(crate) fn click(&mut self, element: &str) {
        self.until(&format!("!!({element})"));
        let at = self.read(&format!(
            "(() => {{ const e = {element}; e.scrollIntoView({{block: 'center', inline: 'center'}}); \
             const r = e.getBoundingClientRect(); return [r.x + r.width / 2, r.y + r.height / 2]; }})()"
        ));
        for kind in ["mousePressed", "mouseReleased"] {
            let event = json!({"type": kind, "x": at[0], "y": at[1], "button": "left", "clickCount": 1});
            self.call("Input.dispatchMouseEvent", event);
        }
    }

    /// Presses a key of the keyboard.
    pub(crate) fn press(&mut self, key: &str) {
        let (code, text) = match key {
            "Tab" => (9, ""),
            "Enter" => (13, "\r"),
            "Escape" => (27, ""),
            _ => (0, key),
        };
        for kind in ["keyDown", "keyUp"] {
            let event = json!({"type": kind, "key": key, "windowsVirtualKeyCode": code, "text": if kind == "keyDown" { text } else { "" }});
            self.call("Input.dispatchKeyEvent", event);
        }
    }

    /// Types into what has the focus.
    pub(crate) fn type_in(&mut self, text: &str) {
        self.call("Input.insertText", json!({"text": text}));
    }

    /// Gives the window a size, in pixels.
    pub(crate) fn resize(&mut self, (width, height): (u32, u32)) {
        let size = json!({"width": width, "height": height, "deviceScaleFactor": 1, "mobile": false});
        self.call("Emulation.setDeviceMetricsOverride", size);
    }

    /// Has the page in dark colours, or in light ones.
    pub(crate) fn darken(&mut self, dark: bool) {
        let value = if dark { "dark" } else { "light" };
        let features = json!([{"name": "prefers-color-scheme", "value": value}]);
        self.call("Emulation.setEmulatedMedia", json!({"features": features}));
    }

    /// A picture of the window in `BATON_PICTURES`, a directory, if that is set: for people.
    pub(crate) fn picture(&mut self, name: &str) {
        let Some(directory) = std::env::var_os("BATON_PICTURES") else { return };
        let picture =
            self.call("Page.captureScreenshot", json!({"format": "png", "captureBeyondViewport": true}));
        let path = std::path::Path::new(&directory).join(format!("{name}.png.base64"));
        std::fs::write(path, picture["data"].as_str().unwrap_or_default()).expect("a picture");
    }

    /// What scripts and the page's policy had to complain of.
    pub(crate) fn complaints(&mut self) -> &[Value] {
        self.read("0");
        &self.complaints
    }
}
