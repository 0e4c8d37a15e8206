//! `[[check]]`: what servers of this host are asked.

use std::time::Duration;

use model::Protocol;
use toml::Spanned;

use super::file::Kind;
use super::{Check, file};
use crate::checks::{self, Asks};

const INTERVAL_S: u32 = 2;
const TIMEOUT_MS: u32 = 1000;
const RISE: u32 = 2;
const FALL: u32 = 3;
/// The longest name of a gRPC service.
const LONGEST_SERVICE: usize = 100;

impl Check<'_> {
    pub(super) fn checks(&mut self, files: Vec<file::Check>) -> Vec<checks::Check> {
        files.into_iter().filter_map(|check| self.check(check)).collect()
    }

    fn check(&mut self, file: file::Check) -> Option<checks::Check> {
        let (at, kind) = (file.kind.span(), *file.kind.get_ref());
        self.keys_of_others(&file, kind);
        let protocol = file.protocol.map_or(Protocol::Tcp, Protocol::from);
        if protocol == Protocol::Udp && kind != Kind::Script {
            let fix = "write kind = \"script\" with a command that asks it, or protocol = \"tcp\"";
            self.mistake::<()>(at.clone(), "only a script can ask a UDP server", fix);
        }
        let ports: Vec<u16> = file.ports.get_ref().iter().filter_map(|port| self.port(port)).collect();
        if file.ports.get_ref().is_empty() {
            self.mistake::<()>(file.ports.span(), "it is about no port", "write for example ports = [80]");
        }
        let dvipas = file.dvipa.map(|of| of.iter().filter_map(|of| self.network(of)).collect());
        let interval_s = self.at_least_one(&file.interval_s, INTERVAL_S);
        let longest = interval_s.saturating_mul(1000);
        let timeout_ms = self.at_least_one(&file.timeout_ms, TIMEOUT_MS.min(longest));
        if timeout_ms > longest {
            let fix = format!("write {longest} or less, or a longer interval_s");
            let at = file.timeout_ms.as_ref().map_or(at.clone(), Spanned::span);
            self.mistake::<()>(at, "the answer is waited for longer than until the next question", fix);
        }
        let (rise, fall) = (self.at_least_one(&file.rise, RISE), self.at_least_one(&file.fall, FALL));
        let asks = match kind {
            Kind::Tcp => Asks::Tcp,
            Kind::Http => Asks::Http {
                path: self.path(file.path),
                host: file.host.and_then(|host| self.host(host)),
                status: file.status.and_then(|status| self.status(status)),
            },
            Kind::Grpc => Asks::Grpc { service: self.service(file.service) },
            Kind::Script => Asks::Script {
                command: match file.command.map(Spanned::into_inner) {
                    Some(command) if command.first().is_some_and(|program| program.starts_with('/')) => {
                        command
                    }
                    _ => {
                        let fix = "write for example command = [\"/usr/local/lib/check-shop\", \"--quick\"]";
                        let what = "a script needs a command: the program's whole path, and its arguments";
                        return self.mistake(at, what, fix);
                    }
                },
            },
        };
        let interval = Duration::from_secs(interval_s.into());
        let timeout = Duration::from_millis(timeout_ms.into());
        Some(checks::Check { protocol, ports, dvipas, asks, interval, timeout, rise, fall })
    }

    /// A key that the kind does not have.
    fn keys_of_others(&mut self, file: &file::Check, kind: Kind) {
        let keys = [
            ("path", Kind::Http, file.path.as_ref().map(Spanned::span)),
            ("host", Kind::Http, file.host.as_ref().map(Spanned::span)),
            ("status", Kind::Http, file.status.as_ref().map(Spanned::span)),
            ("service", Kind::Grpc, file.service.as_ref().map(Spanned::span)),
            ("command", Kind::Script, file.command.as_ref().map(Spanned::span)),
        ];
        for (key, of, at) in keys {
            if let Some(at) = at.filter(|_| of != kind) {
                let of = format!("{of:?}").to_lowercase();
                let fix = format!("remove it, or write kind = \"{of}\"");
                self.mistake::<()>(at, format!("`{key}` is for checks of kind \"{of}\""), fix);
            }
        }
    }

    fn at_least_one(&mut self, number: &Option<Spanned<u32>>, default: u32) -> u32 {
        let Some(number) = number else { return default };
        if *number.get_ref() == 0 {
            self.mistake::<()>(number.span(), "0 is none", format!("write {default}"));
        }
        *number.get_ref()
    }

    fn path(&mut self, path: Option<Spanned<String>>) -> String {
        let Some(path) = path else { return "/".to_owned() };
        let text = path.get_ref();
        if !text.starts_with('/') || text.bytes().any(|byte| !byte.is_ascii_graphic()) {
            let what = format!("`{text}` is not a path as requests have it");
            self.mistake::<()>(path.span(), what, "write for example path = \"/healthz\"");
        }
        path.into_inner()
    }

    fn host(&mut self, host: Spanned<String>) -> Option<String> {
        let text = host.get_ref();
        if text.is_empty() || text.bytes().any(|byte| !byte.is_ascii_graphic()) {
            let what = format!("`{text}` is no host as requests name it");
            return self.mistake(host.span(), what, "write for example host = \"shop.example\"");
        }
        Some(host.into_inner())
    }

    fn status(&mut self, status: Spanned<Vec<u16>>) -> Option<Vec<u16>> {
        let of = status.get_ref();
        if of.is_empty() || of.iter().any(|code| !(100..600).contains(code)) {
            let fix = "write for example status = [200, 204], or nothing for 200 to 399";
            return self.mistake(status.span(), "status codes are numbers from 100 to 599", fix);
        }
        Some(status.into_inner())
    }

    fn service(&mut self, service: Option<Spanned<String>>) -> String {
        let Some(service) = service else { return String::new() };
        if service.get_ref().len() > LONGEST_SERVICE {
            let what = format!("a service's name has at most {LONGEST_SERVICE} bytes here");
            self.mistake::<()>(service.span(), what, "write the name that the server registers");
        }
        service.into_inner()
    }
}
