//! Who can be the target of a transfer.

use std::fmt;
use std::str::FromStr;

use minicbor::decode::Error as CborError;
use minicbor::encode::Write;
use minicbor::{Decode, Decoder, Encode, Encoder};
use serde::{Deserialize, Serialize};

use crate::StackName;
use crate::stack::BadStackName;

/// The name under which an application is known in the cluster; several applications of one kind have the same one. 1 to
/// 63 characters out of letters, digits, `-`, `_` and `.`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct JobName(String);

/// Why a text is not a job name.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is not a job name: use 1 to 63 letters, digits, `-`, `_` and `.`")]
pub struct BadJobName(pub String);

impl JobName {
    /// Checks and takes a name.
    ///
    /// # Errors
    /// [`BadJobName`] if it is too long or has other characters.
    pub fn new(name: impl Into<String>) -> Result<Self, BadJobName> {
        let name = name.into();
        let good = name.bytes().all(|b| b.is_ascii_alphanumeric() || b"-_.".contains(&b));
        if good && (1..=63).contains(&name.len()) { Ok(Self(name)) } else { Err(BadJobName(name)) }
    }

    /// How a server is called that listens but has no control socket: it can be a target, but gets no application state.
    pub fn listener() -> Self {
        Self("listener".to_owned())
    }

    /// The name as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for JobName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0)
    }
}

impl FromStr for JobName {
    type Err = BadJobName;
    fn from_str(s: &str) -> Result<Self, BadJobName> {
        Self::new(s)
    }
}

impl TryFrom<String> for JobName {
    type Error = BadJobName;
    fn try_from(s: String) -> Result<Self, BadJobName> {
        Self::new(s)
    }
}

impl From<JobName> for String {
    fn from(name: JobName) -> String {
        name.0
    }
}

impl<C> Encode<C> for JobName {
    fn encode<W: Write>(
        &self,
        e: &mut Encoder<W>,
        _: &mut C,
    ) -> Result<(), minicbor::encode::Error<W::Error>> {
        e.str(&self.0)?;
        Ok(())
    }
}

impl<'b, C> Decode<'b, C> for JobName {
    fn decode(d: &mut Decoder<'b>, _: &mut C) -> Result<Self, CborError> {
        Self::new(d.str()?).map_err(|_| CborError::message("not a job name"))
    }
}

/// An application that a connection can be transferred to, written `job@stack`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, Encode, Decode)]
pub struct Target {
    /// The stack that it runs on.
    #[cbor(n(0), with = "stack_name")]
    pub stack: StackName,
    /// Its name there.
    #[n(1)]
    pub job: JobName,
}

/// Why a text is not a target.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BadTarget {
    /// There is no `@`.
    #[error("`{0}` is not a target: write JOB@STACK")]
    Form(String),
    /// Before the `@`.
    #[error(transparent)]
    Job(#[from] BadJobName),
    /// Behind the `@`.
    #[error(transparent)]
    Stack(#[from] BadStackName),
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}@{}", self.job, self.stack)
    }
}

impl FromStr for Target {
    type Err = BadTarget;
    fn from_str(s: &str) -> Result<Self, BadTarget> {
        let (job, stack) = s.split_once('@').ok_or_else(|| BadTarget::Form(s.to_owned()))?;
        Ok(Self { stack: StackName::new(stack)?, job: JobName::new(job)? })
    }
}

/// A [`StackName`] on the wire: a text.
pub(super) mod stack_name {
    use super::{CborError, Decoder, Encoder, StackName, Write};

    pub(crate) fn encode<C, W: Write>(
        name: &StackName,
        e: &mut Encoder<W>,
        _: &mut C,
    ) -> Result<(), minicbor::encode::Error<W::Error>> {
        e.str(name.as_str())?;
        Ok(())
    }

    pub(crate) fn decode<C>(d: &mut Decoder<'_>, _: &mut C) -> Result<StackName, CborError> {
        StackName::new(d.str()?).map_err(|_| CborError::message("not a stack name"))
    }
}
