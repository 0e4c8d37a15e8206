//! HAProxy, with a socket for each set of rules.

use std::fs;
use std::io::{Read, Write};
use std::net::Shutdown;
use std::ops::Range;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use crate::Chosen;
use crate::rules::Rules;

/// How long HAProxy may take to start, and to answer.
const PATIENCE: Duration = Duration::from_secs(20);

/// A running HAProxy; it ends when this is dropped.
pub(crate) struct Proxy {
    process: Child,
    directory: PathBuf,
}

impl Proxy {
    /// # Errors
    /// In words.
    pub(crate) fn start(sets: &[Rules]) -> Result<Self, String> {
        let directory = std::env::temp_dir().join(format!("baton-haproxy-{}", std::process::id()));
        fs::create_dir_all(&directory).map_err(|e| format!("{}: {e}", directory.display()))?;
        let file = directory.join("haproxy.cfg");
        fs::write(&file, configuration(sets, &directory)).map_err(|e| format!("{}: {e}", file.display()))?;
        let path = std::env::var("PATH").unwrap_or_default() + ":/usr/sbin";
        let log = fs::File::create(directory.join("log")).map_err(|e| e.to_string())?;
        let process = Command::new("haproxy")
            .env("PATH", path)
            .args(["-db", "-f"])
            .arg(&file)
            .stdout(Stdio::null())
            .stderr(log)
            .spawn()
            .map_err(|e| format!("haproxy does not start (Debian: apt install haproxy): {e}"))?;
        let mut proxy = Self { process, directory };
        let end = Instant::now() + PATIENCE;
        while UnixStream::connect(proxy.socket(sets.len() - 1)).is_err() {
            let ended = proxy.process.try_wait().map_err(|e| e.to_string())?;
            if ended.is_some() || Instant::now() > end {
                let log = fs::read_to_string(proxy.directory.join("log")).unwrap_or_default();
                return Err(format!("haproxy does not listen: {log}"));
            }
            std::thread::yield_now();
        }
        Ok(proxy)
    }

    fn socket(&self, set: usize) -> PathBuf {
        socket(&self.directory, set)
    }

    /// What it chooses for a request that comes in these segments.
    pub(crate) fn ask(&mut self, set: usize, request: &[u8], segments: &[Range<usize>]) -> Chosen {
        let mut stream = UnixStream::connect(self.socket(set)).expect("it listens");
        stream.set_read_timeout(Some(PATIENCE)).expect("a socket has a timeout");
        let mut sent = 0;
        for segment in segments {
            // It may have answered already.
            if stream.write_all(&request[sent..segment.end]).is_err() {
                break;
            }
            sent = segment.end;
        }
        let _ = stream.shutdown(Shutdown::Write);
        let mut answer = Vec::new();
        // What it has not read it answers with a reset, behind the answer.
        if let Err(error) = stream.read_to_end(&mut answer) {
            assert!(
                !answer.is_empty(),
                "HAProxy does not answer {:?}: {error}",
                String::from_utf8_lossy(request)
            );
        }
        let answer = String::from_utf8_lossy(&answer);
        let route = answer.lines().find_map(|line| line.strip_prefix("x-route: "));
        match route {
            Some("none") => Chosen::None,
            Some(number) => Chosen::Route(number.parse().expect("a number")),
            None => Chosen::Unread,
        }
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
        let _ = fs::remove_dir_all(&self.directory);
    }
}

fn socket(directory: &Path, set: usize) -> PathBuf {
    directory.join(format!("{set}.sock"))
}

fn configuration(sets: &[Rules], directory: &Path) -> String {
    let backend = |name: &str, route: &str| {
        format!("backend {name}\n    http-request return status 200 hdr x-route {route}\n")
    };
    let frontends =
        sets.iter().enumerate().map(|(n, rules)| rules.frontend(n, &socket(directory, n).to_string_lossy()));
    let routes = sets.iter().map(|rules| rules.set.routes.len()).max().unwrap_or(0);
    let backends = (0..routes).map(|n| backend(&format!("r{n}"), &n.to_string()));
    let defaults = "global\n    nbthread 1\n    maxconn 2000\ndefaults\n    mode http\n    option httpclose\n    \
        timeout connect 5s\n    timeout client 10s\n    timeout server 10s\n";
    defaults.to_owned() + &frontends.chain(backends).collect::<String>() + &backend("none", "none")
}
