//! `[[vipadynamic.vipadistribute.quic]]`: how servers write into QUIC connection IDs which stack they are on (QUIC-LB).

use std::fs::File;
use std::io::Read;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use model::StackName;
use model::quic::{Configuration, Key, ServerId, hexadecimal};
use toml::de::DeValue;

use crate::config::draft::DraftQuic;
use crate::config::mistake::Ledger;
use crate::config::section::{At, Section};
use crate::config::value::{Value, article};

/// More than a file with a key has, in bytes.
const LONGEST: u64 = 256;
const MAX_SERVER_ID: u8 = ServerId::MAX_BYTES as u8;
const MAX_NONCE: u8 = Configuration::MAX_BLOCK - 1;

/// What is done about files with keys that the file names.
#[derive(Clone, Copy, Debug)]
pub(in crate::config) enum KeyFiles<'d> {
    /// They are read. Relative paths begin here.
    Read(&'d Path),
    /// They are another host's: each has a key, whatever it is.
    Leave,
}

pub(super) fn quic(mut section: Section<'_>, keys: KeyFiles<'_>, ledger: &mut Ledger) -> Option<DraftQuic> {
    let span = section.span().clone();
    let before = ledger.count();
    let fix = "add the number that its connection IDs begin with: rotation = 0";
    let rotation = section.required("rotation", fix, ledger, |v, l| {
        v.number(0..=Configuration::MAX_ROTATION, " (7 is for connection IDs that name no server)", l)
    });
    let fix = "add how long server IDs are: server_id_bytes = 4";
    let server_id_bytes =
        section.required("server_id_bytes", fix, ledger, |v, l| v.number(1..=MAX_SERVER_ID, " (bytes)", l));
    let fix = "add how long nonces are: nonce_bytes = 6";
    let nonce_bytes = section.required("nonce_bytes", fix, ledger, |v, l| {
        v.number(Configuration::MIN_NONCE..=MAX_NONCE, " (bytes)", l)
    });
    let key = section.optional("key", ledger, |v, l| key(v, keys, l));
    let length = section.optional("length_in_first_octet", ledger, Value::flag);
    let server_ids = section.optional("server_ids", ledger, server_ids);
    let good = ledger.count() == before;
    section.finish(ledger);
    good.then_some(DraftQuic {
        span,
        rotation: rotation?,
        server_id_bytes: server_id_bytes?,
        nonce_bytes: nonce_bytes?,
        key: key.map(|at| at.value),
        length_in_first_octet: length.is_some_and(|at| at.value),
        server_ids: server_ids.map_or(Vec::new(), |at| at.value),
    })
}

/// The key in a file that only some may read.
fn key(value: Value<'_>, keys: KeyFiles<'_>, ledger: &mut Ledger) -> Option<Key> {
    let KeyFiles::Read(directory) = keys else { return value.some_text(ledger).map(|_| Key::default()) };
    let path = value.path(directory, ledger)?;
    let shown = path.display();
    let make = format!("make one, the same for all servers: (umask 077; openssl rand -hex 16 > {shown})");
    match read_key(&path) {
        Ok(key) => Some(key),
        Err(Unusable::System(cause)) => {
            value.wrong(ledger, format!("`key`: cannot read {shown}: {cause}"), make)
        }
        Err(Unusable::Open(mode)) => {
            let what = format!("`key`: every user of this host can read {shown} (mode {mode:o})");
            value.wrong(ledger, what, format!("chmod 600 {shown}, and put another key into it"))
        }
        Err(Unusable::Form) => {
            value.wrong(ledger, format!("`key`: {shown} has no key of 32 hexadecimal digits in it"), make)
        }
    }
}

/// Why a file has no key.
enum Unusable {
    System(std::io::Error),
    Open(u32),
    Form,
}

fn read_key(path: &Path) -> Result<Key, Unusable> {
    let metadata = std::fs::metadata(path).map_err(Unusable::System)?;
    if !metadata.is_file() {
        return Err(Unusable::Form);
    }
    if metadata.mode() & 0o007 != 0 {
        return Err(Unusable::Open(metadata.mode() & 0o777));
    }
    let mut text = String::new();
    let read = File::open(path).and_then(|file| file.take(LONGEST).read_to_string(&mut text));
    read.map_err(Unusable::System)?;
    let key = hexadecimal(text.trim()).and_then(|bytes| bytes.try_into().ok());
    key.map(Key).ok_or(Unusable::Form)
}

/// `{ t1 = "0a01", t2 = ["0a02", "0a12"] }`
fn server_ids(value: Value<'_>, ledger: &mut Ledger) -> Option<Vec<(At<StackName>, At<ServerId>)>> {
    let DeValue::Table(table) = value.item.get_ref() else {
        let what = format!("`server_ids` is {}, not a table", article(value.item));
        return value.wrong(ledger, what, "write server_ids = { t1 = \"0a01\", t2 = \"0a02\" }");
    };
    let mut all = Vec::new();
    for (name, item) in table {
        let (span, text): (_, &str) = (name.span(), name.get_ref());
        let Ok(stack) = StackName::new(text) else {
            let what = format!("`server_ids`: \"{text}\" is not a stack name");
            ledger.add(&span, what, "use 1 to 63 of a-z, 0-9 and `-`, with no `-` at either end");
            continue;
        };
        let value = Value { key: "server_ids", item };
        let ids = match item.get_ref() {
            DeValue::Array(_) => value.list(ledger, server_id),
            _ => server_id(value, ledger).map(|id| vec![At { value: id, span: item.span() }]),
        };
        all.extend(
            ids.unwrap_or_default()
                .into_iter()
                .map(|id| (At { value: stack.clone(), span: span.clone() }, id)),
        );
    }
    if table.is_empty() {
        let fix = "remove the key: then server IDs follow from the stacks' names";
        return value.wrong(ledger, "`server_ids` is an empty table".to_owned(), fix);
    }
    Some(all)
}

fn server_id(value: Value<'_>, ledger: &mut Ledger) -> Option<ServerId> {
    let text = value.text(ledger)?;
    let id = text.parse().ok().filter(|_| !text.is_empty());
    id.or_else(|| {
        let what = format!("`server_ids`: \"{text}\" is no server ID");
        value.wrong(ledger, what, format!("write 1 to {MAX_SERVER_ID} bytes, each as two hexadecimal digits"))
    })
}
