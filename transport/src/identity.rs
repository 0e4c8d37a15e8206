//! Who we are and whom we believe: our certificate, its key, and the cluster's CA, read from PEM files and
//! checked as a peer would check them, so that a mistake shows at start with its fix and not as a failed
//! handshake.

use std::fmt;
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use model::StackName;
use rustls::RootCertStore;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, UnixTime};
use rustls::{CertificateError, Error as TlsError};
use serde::{Deserialize, Serialize};
use time::OffsetDateTime;
use x509_parser::prelude::{FromDer, GeneralName, X509Certificate};

use crate::tls;

/// The three PEM files of a stack.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct IdentityFiles {
    /// The cluster's CA.
    pub ca: PathBuf,
    /// This stack's certificate.
    pub certificate: PathBuf,
    /// Its private key.
    pub key: PathBuf,
}

/// A stack's certificate and key, and the CA whose certificates it believes.
pub struct Identity {
    pub(crate) name: StackName,
    pub(crate) roots: Arc<RootCertStore>,
    pub(crate) chain: Vec<CertificateDer<'static>>,
    pub(crate) key: PrivateKeyDer<'static>,
}

impl Clone for Identity {
    fn clone(&self) -> Self {
        let Self { name, roots, chain, key } = self;
        Self { name: name.clone(), roots: roots.clone(), chain: chain.clone(), key: key.clone_key() }
    }
}

impl fmt::Debug for Identity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Identity").field("name", &self.name).finish_non_exhaustive()
    }
}

/// When a certificate ends.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Expiry {
    /// Seconds since 1970.
    pub unix_s: i64,
    /// The last day (UTC, `YYYY-MM-DD`).
    pub date: String,
}

impl Expiry {
    /// At this time, in seconds since 1970.
    pub fn at(unix_s: i64) -> Self {
        let date = OffsetDateTime::from_unix_timestamp(unix_s).map(|time| time.date().to_string());
        Self { unix_s, date: date.unwrap_or_default() }
    }

    /// Whole days until then; below 0: since then.
    pub fn days(&self) -> i64 {
        (self.unix_s - OffsetDateTime::now_utc().unix_timestamp()).div_euclid(24 * 3600)
    }
}

/// Why files are not a usable identity. Every variant names the file and what to do.
#[derive(Debug, thiserror::Error)]
pub enum IdentityError {
    /// A file can't be read.
    #[error(
        "cannot read the {what} {}: {cause} (make the files with `baton pki init` and `baton pki issue`, or fetch \
         them with `baton-agent join`)",
        path.display()
    )]
    Read {
        /// What it should hold.
        what: &'static str,
        /// Which file.
        path: PathBuf,
        /// What the system says.
        cause: io::Error,
    },
    /// A file holds something else.
    #[error("{} holds no usable {what}: {cause} (expected PEM as `baton pki` writes it)", path.display())]
    Content {
        /// What it should hold.
        what: &'static str,
        /// Which file.
        path: PathBuf,
        /// What is wrong.
        cause: String,
    },
    /// Its time is over.
    #[error("the certificate {} expired on {until}; issue a new one: `baton pki issue DIR {name}`", path.display())]
    Expired {
        /// Which file.
        path: PathBuf,
        /// The stack it names.
        name: StackName,
        /// The end of its validity.
        until: String,
    },
    /// Its time has not come.
    #[error("the certificate {} is valid only from {from}; set this host's clock (it may be slow)", path.display())]
    NotYetValid {
        /// Which file.
        path: PathBuf,
        /// The beginning of its validity.
        from: String,
    },
    /// Another CA signed it.
    #[error(
        "the certificate {} was not signed by the CA {}; use the ca.pem of the directory it was issued in, or issue it \
         again there: `baton pki issue DIR {name}`",
        path.display(), ca.display()
    )]
    Foreign {
        /// Which file.
        path: PathBuf,
        /// The CA's file.
        ca: PathBuf,
        /// The stack it names.
        name: StackName,
    },
    /// It is for another stack.
    #[error(
        "the certificate {} is for the stack `{found}`, but this node's name is `{wanted}`; set `name` or the \
         certificate's path, or issue one: `baton pki issue DIR {wanted}`",
        path.display()
    )]
    WrongName {
        /// Which file.
        path: PathBuf,
        /// The stack it names.
        found: StackName,
        /// This node's name.
        wanted: StackName,
    },
    /// The key belongs to another certificate.
    #[error(
        "the key {} does not belong to the certificate {}; both come from one `baton pki issue`",
        key.display(), certificate.display()
    )]
    KeyMismatch {
        /// The key's file.
        key: PathBuf,
        /// The certificate's file.
        certificate: PathBuf,
    },
    /// Other users of this host could use it.
    #[error("the private key {} can be used by every user of this host (mode {mode:o}): `chmod 600` it, and issue another \
             certificate if one of them may have read it", key.display())]
    KeyIsOpen {
        /// The key's file.
        key: PathBuf,
        /// Its mode.
        mode: u32,
    },
    /// A peer would refuse it for another reason.
    #[error(
        "the certificate {} would be refused by every peer: {cause}; issue a new one with `baton pki issue`",
        path.display()
    )]
    Unusable {
        /// Which file.
        path: PathBuf,
        /// What the check says.
        cause: String,
    },
}

impl Identity {
    /// Reads and checks the files of the stack `name`.
    ///
    /// # Errors
    /// [`IdentityError`] if a file is missing, the certificate is for another stack, not valid now, or not of
    /// this CA.
    pub fn load(files: &IdentityFiles, name: &StackName) -> Result<Self, IdentityError> {
        let roots = Arc::new(read_roots(&files.ca)?);
        let chain = read_certificates("certificate", &files.certificate)?;
        let pem = read("private key", &files.key)?;
        keep_secret(&files.key)?;
        let key = PrivateKeyDer::from_pem_slice(&pem).map_err(|e| content("private key", &files.key, e))?;
        let identity = Self { name: name.clone(), roots, chain, key };
        identity.check(files)?;
        Ok(identity)
    }

    /// This stack's name.
    pub fn name(&self) -> &StackName {
        &self.name
    }

    /// When its certificate ends, or one that it depends on in its own file: the earliest.
    pub fn expires(&self) -> Expiry {
        let ends = self.chain.iter().filter_map(|certificate| {
            let (_, parsed) = X509Certificate::from_der(certificate).ok()?;
            Some(parsed.validity().not_after.timestamp())
        });
        Expiry::at(ends.min().unwrap_or_default())
    }

    fn check(&self, files: &IdentityFiles) -> Result<(), IdentityError> {
        let path = || files.certificate.clone();
        let Some((leaf, intermediates)) = self.chain.split_first() else {
            return Err(content("certificate", &files.certificate, "it is empty"));
        };
        let found = stack_name(leaf).map_err(|e| content("certificate", &files.certificate, e))?;
        if found != self.name {
            return Err(IdentityError::WrongName { path: path(), found, wanted: self.name.clone() });
        }
        let verifier = tls::client_verifier(&self.roots).map_err(|e| content("CA", &files.ca, e))?;
        match verifier.verify_client_cert(leaf, intermediates, UnixTime::now()) {
            Ok(_) => {}
            Err(TlsError::InvalidCertificate(cause)) => return Err(self.refused(files, leaf, cause)),
            Err(cause) => return Err(IdentityError::Unusable { path: path(), cause: cause.to_string() }),
        }
        match tls::certified_key(self).map(|k| k.keys_match()) {
            Ok(Ok(())) => Ok(()),
            Ok(Err(_)) => Err(IdentityError::KeyMismatch { key: files.key.clone(), certificate: path() }),
            Err(e) => Err(content("private key", &files.key, e)),
        }
    }

    fn refused(&self, files: &IdentityFiles, leaf: &[u8], cause: CertificateError) -> IdentityError {
        let path = files.certificate.clone();
        let (from, until) = validity(leaf).unwrap_or_default();
        let name = self.name.clone();
        match cause {
            CertificateError::Expired | CertificateError::ExpiredContext { .. } => {
                IdentityError::Expired { path, name, until }
            }
            CertificateError::NotValidYet | CertificateError::NotValidYetContext { .. } => {
                IdentityError::NotYetValid { path, from }
            }
            CertificateError::UnknownIssuer | CertificateError::BadSignature => {
                IdentityError::Foreign { path, ca: files.ca.clone(), name }
            }
            other => IdentityError::Unusable { path, cause: other.to_string() },
        }
    }
}

/// The beginning and the end of a certificate's validity, for people.
fn validity(certificate: &[u8]) -> Option<(String, String)> {
    let (_, parsed) = X509Certificate::from_der(certificate).ok()?;
    Some((parsed.validity().not_before.to_string(), parsed.validity().not_after.to_string()))
}

/// The stack that a certificate names: its only DNS name.
pub(crate) fn stack_name(certificate: &[u8]) -> Result<StackName, String> {
    let (_, parsed) =
        X509Certificate::from_der(certificate).map_err(|e| format!("not an X.509 certificate: {e}"))?;
    let names = parsed.subject_alternative_name().map_err(|e| format!("bad alternative names: {e}"))?;
    let mut dns = names.iter().flat_map(|n| &n.value.general_names).filter_map(|n| match n {
        GeneralName::DNSName(name) => Some(*name),
        _ => None,
    });
    match (dns.next(), dns.next()) {
        (Some(name), None) => StackName::new(name).map_err(|e| e.to_string()),
        (None, _) => Err("the certificate names no stack (no DNS name)".into()),
        (Some(_), Some(_)) => Err("the certificate names more than one stack".into()),
    }
}

fn content(what: &'static str, path: &Path, cause: impl ToString) -> IdentityError {
    IdentityError::Content { what, path: path.to_owned(), cause: cause.to_string() }
}

/// A process that can read the key is this stack, for the others. A group may be meant to: an operator is told.
fn keep_secret(key: &Path) -> Result<(), IdentityError> {
    let read = |cause| IdentityError::Read { what: "private key", path: key.to_owned(), cause };
    let mode = std::fs::metadata(key).map_err(read)?.permissions().mode() & 0o777;
    if mode & 0o007 != 0 {
        return Err(IdentityError::KeyIsOpen { key: key.to_owned(), mode });
    }
    if mode & 0o070 != 0 {
        let key = key.display();
        tracing::warn!(%key, mode = format!("{mode:o}"), "its group can use the private key; if that is not meant, chmod it to 600");
    }
    Ok(())
}

fn read(what: &'static str, path: &Path) -> Result<Vec<u8>, IdentityError> {
    std::fs::read(path).map_err(|cause| IdentityError::Read { what, path: path.to_owned(), cause })
}

fn read_certificates(what: &'static str, path: &Path) -> Result<Vec<CertificateDer<'static>>, IdentityError> {
    let pem = read(what, path)?;
    CertificateDer::pem_slice_iter(&pem).collect::<Result<_, _>>().map_err(|e| content(what, path, e))
}

fn read_roots(path: &Path) -> Result<RootCertStore, IdentityError> {
    let mut roots = RootCertStore::empty();
    for certificate in read_certificates("CA", path)? {
        roots.add(certificate).map_err(|e| content("CA", path, e))?;
    }
    if roots.is_empty() { Err(content("CA", path, "it is empty")) } else { Ok(roots) }
}
