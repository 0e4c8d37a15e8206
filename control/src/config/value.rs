//! How one value is read: its type, its form, its range.

use std::net::{IpAddr, SocketAddr};
use std::ops::{Range, RangeInclusive};
use std::path::{Path, PathBuf};
use std::time::Duration;

use ipnet::IpNet;
use model::{Dvipa, StackName};
use toml::Spanned;
use toml::de::DeValue;

use super::mistake::Ledger;
use super::section::{At, nearest};

/// A value of the file, and the key that it belongs to.
#[derive(Clone, Copy, Debug)]
pub(super) struct Value<'a> {
    pub(super) key: &'static str,
    pub(super) item: &'a Spanned<DeValue<'a>>,
}

impl<'a> Value<'a> {
    /// Where it is.
    pub(super) fn span(&self) -> Range<usize> {
        self.item.span()
    }

    /// Writes a mistake about it down.
    pub(super) fn wrong<T>(&self, ledger: &mut Ledger, what: String, fix: impl Into<String>) -> Option<T> {
        ledger.add(&self.span(), what, fix);
        None
    }

    fn mistyped<T>(&self, ledger: &mut Ledger, wanted: &str, fix: &str) -> Option<T> {
        let what = format!("`{}` is {}, not {wanted}", self.key, article(self.item));
        self.wrong(ledger, what, fix)
    }

    /// Text.
    pub(super) fn text(self, ledger: &mut Ledger) -> Option<&'a str> {
        match self.item.get_ref() {
            DeValue::String(text) => Some(text.as_ref()),
            _ => self.mistyped(ledger, "text", "write it in quotes"),
        }
    }

    /// Text that is not empty.
    pub(super) fn some_text(self, ledger: &mut Ledger) -> Option<String> {
        let text = self.text(ledger)?;
        if text.trim().is_empty() {
            return self.wrong(
                ledger,
                format!("`{}` is empty", self.key),
                "write a value, or remove the key",
            );
        }
        Some(text.to_owned())
    }

    /// A whole number in this range, of these units.
    pub(super) fn number<T>(self, range: RangeInclusive<T>, unit: &str, ledger: &mut Ledger) -> Option<T>
    where
        T: TryFrom<i64> + PartialOrd + std::fmt::Display,
    {
        let (low, high) = (range.start(), range.end());
        let fix = format!("write a whole number from {low} to {high}{unit}");
        let DeValue::Integer(integer) = self.item.get_ref() else {
            return self.mistyped(ledger, "a whole number", &fix);
        };
        let number =
            i64::from_str_radix(integer.as_str(), integer.radix()).ok().and_then(|n| T::try_from(n).ok());
        match number {
            Some(number) if range.contains(&number) => Some(number),
            _ => self.wrong(
                ledger,
                format!("`{}` is {integer}, which is outside of {low} to {high}", self.key),
                fix,
            ),
        }
    }

    /// A time in milliseconds.
    pub(super) fn milliseconds(self, range: RangeInclusive<u32>, ledger: &mut Ledger) -> Option<Duration> {
        self.number(range, " (milliseconds)", ledger).map(|ms| Duration::from_millis(u64::from(ms)))
    }

    /// A time in seconds.
    pub(super) fn seconds(self, range: RangeInclusive<u32>, ledger: &mut Ledger) -> Option<Duration> {
        self.number(range, " (seconds)", ledger).map(|s| Duration::from_secs(u64::from(s)))
    }

    /// `true` or `false`.
    pub(super) fn flag(self, ledger: &mut Ledger) -> Option<bool> {
        match self.item.get_ref() {
            DeValue::Boolean(flag) => Some(*flag),
            _ => self.mistyped(ledger, "true or false", "write true or false without quotes"),
        }
    }

    /// One of these words.
    pub(super) fn choice<T: Copy>(self, words: &[(&str, T)], ledger: &mut Ledger) -> Option<T> {
        let known: Vec<&str> = words.iter().map(|(word, _)| *word).collect();
        let all =
            format!("write {}", known.iter().map(|w| format!("\"{w}\"")).collect::<Vec<_>>().join(" or "));
        let DeValue::String(text) = self.item.get_ref() else { return self.mistyped(ledger, "text", &all) };
        if let Some((_, value)) = words.iter().find(|(word, _)| *word == text.as_ref()) {
            return Some(*value);
        }
        let fix = nearest(text, &known).map_or(all, |near| format!("did you mean \"{near}\"?"));
        self.wrong(ledger, format!("`{}` can't be \"{text}\"", self.key), fix)
    }

    /// A list; its good elements, also if there are bad ones.
    pub(super) fn list<T>(
        self,
        ledger: &mut Ledger,
        mut each: impl FnMut(Value<'a>, &mut Ledger) -> Option<T>,
    ) -> Option<Vec<At<T>>> {
        let DeValue::Array(items) = self.item.get_ref() else {
            return self.mistyped(ledger, "a list", "write it in brackets: [a, b]");
        };
        let element = |item| {
            let value = Value { key: self.key, item };
            each(value, ledger).map(|read| At { value: read, span: value.span() })
        };
        Some(items.iter().filter_map(element).collect())
    }

    /// A list with something in it, and nothing twice.
    pub(super) fn distinct<T: PartialEq + std::fmt::Display>(
        self,
        if_empty: &str,
        ledger: &mut Ledger,
        each: impl FnMut(Value<'a>, &mut Ledger) -> Option<T>,
    ) -> Option<Vec<At<T>>> {
        let list = self.list(ledger, each)?;
        if matches!(self.item.get_ref(), DeValue::Array(items) if items.is_empty()) {
            return self.wrong(ledger, format!("`{}` is an empty list", self.key), if_empty);
        }
        for (i, one) in list.iter().enumerate() {
            if list.iter().take(i).any(|other| other.value == one.value) {
                ledger.add(
                    &one.span,
                    format!("`{}` has {} twice", self.key, one.value),
                    "remove one of them",
                );
            }
        }
        Some(list)
    }

    /// An IP address in canonical form.
    pub(super) fn address(self, ledger: &mut Ledger) -> Option<IpAddr> {
        let text = self.text(ledger)?;
        match text.parse::<IpAddr>() {
            Ok(address) => Some(address.to_canonical()),
            Err(_) => {
                let what = format!("`{}`: \"{text}\" is not an IP address", self.key);
                self.wrong(
                    ledger,
                    what,
                    "write one such as \"198.18.9.1\" or \"2001:db8:9::1\", without a prefix length",
                )
            }
        }
    }

    /// An address that a host can have: of one machine, and known beyond it.
    pub(super) fn host_address(self, ledger: &mut Ledger) -> Option<IpAddr> {
        let address = self.address(ledger)?;
        let link_local = match address {
            IpAddr::V4(v4) => v4.is_link_local() || v4.is_broadcast(),
            IpAddr::V6(v6) => v6.is_unicast_link_local(),
        };
        if link_local || address.is_unspecified() || address.is_multicast() || address.is_loopback() {
            let what = format!("`{}`: {address} is not an address of one host in a network", self.key);
            return self.wrong(ledger, what, "write a unicast address that is not loopback or link-local");
        }
        Some(address)
    }

    /// The address of a DVIPA.
    pub(super) fn dvipa(self, ledger: &mut Ledger) -> Option<Dvipa> {
        self.host_address(ledger).map(Dvipa::new)
    }

    /// An address and a port.
    pub(super) fn socket_address(self, ledger: &mut Ledger) -> Option<SocketAddr> {
        let text = self.text(ledger)?;
        let example = "write one such as \"198.18.0.10:7440\" or \"[2001:db8::10]:7440\"";
        match text.parse::<SocketAddr>() {
            Ok(address) if address.port() == 0 => self.wrong(
                ledger,
                format!("`{}` has port 0, which nobody can reach", self.key),
                "choose a port from 1 to 65535",
            ),
            Ok(address) if address.ip().is_multicast() => self.wrong(
                ledger,
                format!("`{}`: {} is a multicast address", self.key, address.ip()),
                example,
            ),
            Ok(address) => Some(address),
            Err(_) => self.wrong(
                ledger,
                format!("`{}`: \"{text}\" is not an address with a port", self.key),
                example,
            ),
        }
    }

    /// An IP prefix whose host bits are zero.
    pub(super) fn prefix(self, ledger: &mut Ledger) -> Option<IpNet> {
        let text = self.text(ledger)?;
        let Ok(prefix) = text.parse::<IpNet>() else {
            let what = format!("`{}`: \"{text}\" is not an IP prefix", self.key);
            return self.wrong(ledger, what, "write one such as \"198.18.1.0/24\" or \"2001:db8:1::/48\"");
        };
        if prefix != prefix.trunc() {
            let what = format!("`{}`: {prefix} has bits set behind the prefix", self.key);
            return self.wrong(ledger, what, format!("write \"{}\"", prefix.trunc()));
        }
        Some(prefix)
    }

    /// A stack's name.
    pub(super) fn stack_name(self, ledger: &mut Ledger) -> Option<StackName> {
        let text = self.text(ledger)?;
        match StackName::new(text) {
            Ok(name) => Some(name),
            Err(_) => self.wrong(
                ledger,
                format!("`{}`: \"{text}\" is not a stack name", self.key),
                "use 1 to 63 of a-z, 0-9 and `-`, with no `-` at either end",
            ),
        }
    }

    /// A path, relative to `directory` if it is relative.
    pub(super) fn path(self, directory: &Path, ledger: &mut Ledger) -> Option<PathBuf> {
        self.some_text(ledger).map(|text| directory.join(text))
    }
}

/// What a value is, with its article.
pub(super) fn article(item: &Spanned<DeValue<'_>>) -> &'static str {
    match item.get_ref() {
        DeValue::String(_) => "text",
        DeValue::Integer(_) => "a whole number",
        DeValue::Float(_) => "a number with a fraction",
        DeValue::Boolean(_) => "true or false",
        DeValue::Datetime(_) => "a date or time",
        DeValue::Array(_) => "a list",
        DeValue::Table(_) => "a table",
    }
}
