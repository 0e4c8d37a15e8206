//! The cluster's certificates: one CA, and one certificate a stack, in one directory.
//!
//! `ca.pem` goes to every stack, `ca.key` stays where certificates are issued, `NAME.pem` and `NAME.key` go to
//! the stack NAME. Keys are ECDSA on P-256; a stack's name is the certificate's only DNS name, and it serves for
//! both sides of a session.

use std::fs::OpenOptions;
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use model::StackName;
use rcgen::{
    BasicConstraints, Certificate, CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose,
    IsCa, Issuer, KeyPair, KeyUsagePurpose, PKCS_ECDSA_P256_SHA256, PublicKeyData,
};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName};
use time::{Duration, OffsetDateTime};

/// How long a CA is valid.
pub const CA_DAYS: u16 = 3650;
/// How long a stack's certificate is valid unless said otherwise.
pub const STACK_DAYS: u16 = 825;
/// Certificates are valid from a little before they are made, for hosts whose clocks are slow.
const CLOCK_SLACK: Duration = Duration::hours(1);

/// What was made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Issued {
    /// The certificate's file.
    pub certificate: PathBuf,
    /// The private key's file, mode 0600.
    pub key: PathBuf,
    /// The first day on which it is valid (UTC, `YYYY-MM-DD`).
    pub from: String,
    /// The last day on which it is valid (UTC, `YYYY-MM-DD`).
    pub until: String,
}

/// Why nothing was made.
#[derive(Debug, thiserror::Error)]
pub enum PkiError {
    /// A file is there already; nothing is ever overwritten.
    #[error("{} exists already and is not overwritten; move it away first if you want a new one", .0.display())]
    Exists(PathBuf),
    /// The directory holds no CA.
    #[error("no CA in {}: {cause}; make one with `baton pki init {}`", dir.display(), dir.display())]
    NoCa {
        /// Where.
        dir: PathBuf,
        /// What the system says.
        cause: io::Error,
    },
    /// The CA's files are damaged.
    #[error("the CA in {} can't be used: {cause}", dir.display())]
    BadCa {
        /// Where.
        dir: PathBuf,
        /// What is wrong.
        cause: rcgen::Error,
    },
    /// A file can't be written.
    #[error("cannot write {}: {cause}", path.display())]
    Write {
        /// Which.
        path: PathBuf,
        /// What the system says.
        cause: io::Error,
    },
    /// The name can't stand in a certificate.
    #[error("`{0}` can't be used in a certificate: a name needs at least one letter")]
    Name(StackName),
    /// The certificate can't be made.
    #[error("cannot make the certificate: {0}")]
    Make(#[from] rcgen::Error),
}

/// Makes a CA: `ca.pem` and `ca.key` in `dir`, which is made if it is not there.
///
/// # Errors
/// [`PkiError`] if there is one already, or the directory can't be written.
pub fn init(dir: &Path) -> Result<Issued, PkiError> {
    std::fs::create_dir_all(dir).map_err(|cause| PkiError::Write { path: dir.to_owned(), cause })?;
    let mut params = CertificateParams::default();
    params.distinguished_name = common_name("baton cluster CA");
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    let (from, until) = valid(&mut params, CA_DAYS, OffsetDateTime::now_utc());
    let key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256)?;
    let certificate = params.self_signed(&key)?;
    write_pair(dir, "ca", &certificate.pem(), &key, from, until)
}

/// Makes the certificate of a stack, signed by the CA in `dir`: `NAME.pem` and `NAME.key` there, valid for `days`.
///
/// # Errors
/// [`PkiError`] if there is no CA, the files exist, or can't be written.
pub fn issue(dir: &Path, name: &StackName, days: u16) -> Result<Issued, PkiError> {
    issue_at(dir, name, days, OffsetDateTime::now_utc())
}

fn issue_at(dir: &Path, name: &StackName, days: u16, now: OffsetDateTime) -> Result<Issued, PkiError> {
    can_be_certified(dir, name)?;
    let key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256)?;
    let Certified { certificate, from, until } = Authority::open(dir)?.certify(name, &key, days, now)?;
    write_pair(dir, name.as_str(), &certificate.pem(), &key, from, until)
}

/// Whether a certificate in this directory can be this stack's.
pub(crate) fn can_be_certified(dir: &Path, name: &StackName) -> Result<(), PkiError> {
    if name.as_str() == "ca" {
        return Err(PkiError::Exists(dir.join("ca.pem")));
    }
    if ServerName::try_from(name.as_str()).is_err() || name.as_str().bytes().all(|b| b.is_ascii_digit()) {
        return Err(PkiError::Name(name.clone()));
    }
    Ok(())
}

/// A CA with its key: who has it can make any stack's certificate.
pub struct Authority {
    /// Where its files are.
    pub(crate) dir: PathBuf,
    /// `ca.pem`, with whatever other authorities it has: all that a stack trusts.
    pub(crate) pem: String,
    /// The certificate that signs, the first one in `ca.pem`.
    pub(crate) certificate: CertificateDer<'static>,
    issuer: Issuer<'static, KeyPair>,
}

/// A certificate that an [`Authority`] has signed, with its first and last day (UTC, `YYYY-MM-DD`).
pub(crate) struct Certified {
    pub(crate) certificate: Certificate,
    from: String,
    pub(crate) until: String,
}

impl Authority {
    /// Reads `ca.pem` and `ca.key` in a directory.
    ///
    /// # Errors
    /// [`PkiError::NoCa`] or [`PkiError::BadCa`].
    pub fn open(dir: &Path) -> Result<Self, PkiError> {
        let read = |file: &str| {
            std::fs::read_to_string(dir.join(file))
                .map_err(|cause| PkiError::NoCa { dir: dir.to_owned(), cause })
        };
        let (pem, key) = (read("ca.pem")?, read("ca.key")?);
        let bad = |cause| PkiError::BadCa { dir: dir.to_owned(), cause };
        let certificate = CertificateDer::from_pem_slice(pem.as_bytes())
            .map_err(|_| bad(rcgen::Error::CouldNotParseCertificate))?;
        let key = KeyPair::from_pem(&key).map_err(bad)?;
        let issuer = Issuer::from_ca_cert_der(&certificate, key).map_err(bad)?;
        Ok(Self { dir: dir.to_owned(), pem, certificate, issuer })
    }

    /// A certificate of this name for the owner of a key, valid for `days`. It serves for both sides of a session.
    pub(crate) fn certify(
        &self,
        name: &StackName,
        key: &impl PublicKeyData,
        days: u16,
        now: OffsetDateTime,
    ) -> Result<Certified, PkiError> {
        let both = vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
        self.sign(name.as_str(), both, key, days, now)
    }

    /// A certificate with which a server shows that it has this authority's key. No stack can have its name, which is no
    /// [`StackName`], and no stack believes it.
    pub(crate) fn certify_server(
        &self,
        name: &str,
        key: &impl PublicKeyData,
        now: OffsetDateTime,
    ) -> Result<Certificate, PkiError> {
        let server = vec![ExtendedKeyUsagePurpose::ServerAuth];
        Ok(self.sign(name, server, key, CA_DAYS, now)?.certificate)
    }

    fn sign(
        &self,
        name: &str,
        usages: Vec<ExtendedKeyUsagePurpose>,
        key: &impl PublicKeyData,
        days: u16,
        now: OffsetDateTime,
    ) -> Result<Certified, PkiError> {
        let mut params = CertificateParams::new(vec![name.to_owned()])?;
        params.distinguished_name = common_name(name);
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages = usages;
        params.use_authority_key_identifier_extension = true;
        let (from, until) = valid(&mut params, days, now);
        Ok(Certified { certificate: params.signed_by(key, &self.issuer)?, from, until })
    }
}

fn common_name(name: &str) -> DistinguishedName {
    let mut distinguished = DistinguishedName::new();
    distinguished.push(DnType::CommonName, name);
    distinguished
}

/// Sets the validity; returns its first and last day.
fn valid(params: &mut CertificateParams, days: u16, now: OffsetDateTime) -> (String, String) {
    params.not_before = now - CLOCK_SLACK;
    params.not_after = now + Duration::days(days.into());
    (params.not_before.date().to_string(), params.not_after.date().to_string())
}

fn write_pair(
    dir: &Path,
    name: &str,
    certificate_pem: &str,
    key: &KeyPair,
    from: String,
    until: String,
) -> Result<Issued, PkiError> {
    let certificate = dir.join(format!("{name}.pem"));
    let key_path = dir.join(format!("{name}.key"));
    if let Some(there) = [&certificate, &key_path].into_iter().find(|p| p.exists()) {
        return Err(PkiError::Exists(there.clone()));
    }
    write_new(&key_path, 0o600, &key.serialize_pem())?;
    write_new(&certificate, 0o644, certificate_pem)?;
    Ok(Issued { certificate, key: key_path, from, until })
}

fn write_new(path: &Path, mode: u32, text: &str) -> Result<(), PkiError> {
    let written = OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(mode)
        .open(path)
        .and_then(|mut file| file.write_all(text.as_bytes()).and_then(|()| file.sync_all()));
    written.map_err(|cause| match cause.kind() {
        io::ErrorKind::AlreadyExists => PkiError::Exists(path.to_owned()),
        _ => PkiError::Write { path: path.to_owned(), cause },
    })
}

#[cfg(test)]
mod tests;
