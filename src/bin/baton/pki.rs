//! `baton pki`: the cluster's certificates.

use transport::pki::{self, Issued};

use crate::arguments::Pki;
use crate::failure::Failure;

/// Makes certificates; returns what was made.
pub(crate) fn run(command: Pki) -> Result<String, Failure> {
    let failed = |e: pki::PkiError| Failure::Text(format!("error: {e}"));
    match command {
        Pki::Init { dir } => {
            let made = pki::init(&dir).map_err(failed)?;
            Ok(format!(
                "{}Next: `baton pki issue {} NAME…` for each stack. Every stack gets ca.pem; ca.key stays here.\n",
                lines(&made),
                dir.display()
            ))
        }
        Pki::Issue { dir, names, days } => {
            let mut out = String::new();
            for name in &names {
                match pki::issue(&dir, name, days) {
                    Ok(made) => out.push_str(&lines(&made)),
                    // What was made before stays; say so.
                    Err(e) => return Err(Failure::Text(format!("{out}error: {e}"))),
                }
            }
            Ok(out)
        }
    }
}

fn lines(made: &Issued) -> String {
    let Issued { certificate, key, from, until } = made;
    format!("{}  valid {from} to {until}\n{}  private key, mode 0600\n", certificate.display(), key.display())
}
