//! Who gives orders.

use std::fmt;

use serde::{Deserialize, Serialize};

/// Who gave an order.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", tag = "who")]
pub enum OrderedBy {
    /// A process that connected to the admin socket (SO_PEERCRED).
    User {
        /// Its effective user.
        uid: u32,
        /// The user who logged in, whatever the process became since (`/proc/PID/loginuid`); none if the kernel does not know one.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        login_uid: Option<u32>,
    },
    /// Who has the token of the web page.
    Web,
    /// SIGHUP.
    Signal,
    /// The start of `batond`.
    Start,
}

impl fmt::Display for OrderedBy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::User { uid, login_uid: Some(login) } if login != uid => {
                write!(f, "uid {uid}, logged in as uid {login}")
            }
            Self::User { uid, .. } => write!(f, "uid {uid}"),
            Self::Web => f.write_str("the web page"),
            Self::Signal => f.write_str("SIGHUP"),
            Self::Start => f.write_str("the start of batond"),
        }
    }
}
