//! `[cluster.etcd]`, and what of `[cluster]` has to fit it.

use std::path::Path;
use std::time::Duration;

use super::super::mistake::Ledger;
use super::super::section::{At, Section};
use super::super::tree::Etcd;
use super::super::value::Value;

/// `prefix` if it is not set.
const PREFIX: &str = "/baton/";

pub(super) fn etcd(mut section: Section<'_>, directory: &Path, ledger: &mut Ledger) -> Option<Etcd> {
    let span = section.span().clone();
    let fix = "name its members: endpoints = [\"http://198.18.0.31:2379\", \"http://198.18.0.32:2379\", \"http://198.18.0.33:2379\"]";
    let endpoints = section.required("endpoints", fix, ledger, |v, l| endpoints(v, fix, l));
    let prefix = section.optional("prefix", ledger, prefix);
    let mut file = |key| section.optional(key, ledger, |v, l| v.path(directory, l));
    let (ca, certificate, key) = (file("ca"), file("certificate"), file("key"));
    section.finish(ledger);
    let endpoints = endpoints?.value;
    let named = ca.iter().chain(&certificate).chain(&key).next();
    if let Some(At { span, .. }) = named.filter(|_| endpoints.iter().any(|url| url.starts_with("http://"))) {
        let what = "certificates are for `https`, and `endpoints` has `http`";
        ledger.add(span, what, "write https://, or remove `ca`, `certificate` and `key`");
    }
    if ca.is_none() && endpoints.iter().any(|url| url.starts_with("https://")) {
        let fix = "name the authority of the members' certificates: ca = \"pki/etcd.pem\"";
        ledger.add(&span, "`https` needs a `ca`, and `cluster.etcd` has none", fix);
    }
    let certificate = match (certificate, key) {
        (Some(certificate), Some(key)) => Some((certificate.value, key.value)),
        (None, None) => None,
        (Some(_), None) | (None, Some(_)) => {
            ledger.add(&span, "one of `certificate` and `key` is missing", "write both, or none of them");
            None
        }
    };
    let prefix = prefix.map_or_else(|| PREFIX.to_owned(), |at| at.value);
    Some(Etcd { endpoints, prefix, ca: ca.map(|at| at.value), certificate })
}

fn endpoints(value: Value<'_>, fix: &str, ledger: &mut Ledger) -> Option<Vec<String>> {
    let urls: Vec<String> = value.distinct(fix, ledger, url)?.into_iter().map(|at| at.value).collect();
    let secure = urls.iter().filter(|url| url.starts_with("https://")).count();
    if secure > 0 && secure < urls.len() {
        return value.wrong(ledger, "`endpoints` has http and https".to_owned(), "write one of both");
    }
    Some(urls)
}

fn url(value: Value<'_>, ledger: &mut Ledger) -> Option<String> {
    let text = value.text(ledger)?;
    let authority = text.strip_prefix("http://").or_else(|| text.strip_prefix("https://"));
    let parts = authority.and_then(|authority| authority.rsplit_once(':'));
    let is_good = parts.is_some_and(|(host, port)| {
        let is_host = |c: char| c.is_ascii_alphanumeric() || "-._:[]".contains(c);
        !host.is_empty() && host.chars().all(is_host) && port.parse::<u16>().is_ok_and(|port| port > 0)
    });
    if !is_good {
        let what = format!("`endpoints`: \"{text}\" is not where etcd answers clients");
        return value.wrong(ledger, what, "write http or https, host and port: \"http://198.18.0.31:2379\"");
    }
    Some(text.to_owned())
}

fn prefix(value: Value<'_>, ledger: &mut Ledger) -> Option<String> {
    let text = value.some_text(ledger)?;
    if !text.ends_with('/') {
        let what = format!("`prefix`: \"{text}\" does not end in /");
        return value.wrong(ledger, what, format!("write \"{text}/\""));
    }
    Some(text)
}

/// How long etcd leases.
pub(super) fn lease(lease: Option<At<Duration>>, ledger: &mut Ledger) -> Duration {
    let least = ownership::lease::ETCD_MIN;
    let Some(At { value, span }) = lease else { return least };
    if value < least || value.subsec_nanos() > 0 {
        let ms = value.as_millis();
        let what = format!(
            "`lease_ms` is {ms}, and etcd leases for whole seconds, and {} at least",
            least.as_secs()
        );
        let next = value.max(least).as_millis().div_ceil(1000) * 1000;
        ledger.add(&span, what, format!("set lease_ms to {next}"));
    }
    value
}
