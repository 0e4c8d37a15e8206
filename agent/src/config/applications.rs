//! `[applications]`: who may use the control socket.

use std::path::PathBuf;

use nix::unistd::{Group, User};
use toml::Spanned;

use super::file::Who;
use super::{Applications, Check, file};

/// The file's own user and group, and nobody else.
const MODE: u32 = 0o660;

impl Check<'_> {
    pub(super) fn applications(&mut self, file: file::Applications) -> Applications {
        let file::Applications { socket, mode, group, users } = file;
        let socket = socket.unwrap_or_else(|| PathBuf::from("/run/baton/applications.sock"));
        let group = group.and_then(|group| {
            let found = |name: &str| Group::from_name(name).ok().flatten().map(|group| group.gid.as_raw());
            self.who(&group, "group", found)
        });
        let users = users.map(|users| {
            let found = |name: &str| User::from_name(name).ok().flatten().map(|user| user.uid.as_raw());
            users.iter().filter_map(|user| self.who(user, "user", found)).collect()
        });
        Applications { socket: self.base.join(socket), mode: self.mode(mode), group, users }
    }

    fn mode(&mut self, mode: Option<Spanned<u32>>) -> u32 {
        let Some(mode) = mode else { return MODE };
        if *mode.get_ref() > 0o777 {
            let what = format!("0o{:o} is not a file's mode", mode.get_ref());
            self.mistake::<()>(mode.span(), what, "write for example 0o660, with 0o before the digits");
        }
        *mode.get_ref()
    }

    fn who(&mut self, who: &Spanned<Who>, kind: &str, found: impl Fn(&str) -> Option<u32>) -> Option<u32> {
        match who.get_ref() {
            Who::Number(number) => Some(*number),
            Who::Name(name) => found(name).or_else(|| {
                let fix = format!("write a {kind} that `getent` knows, or its number");
                self.mistake(who.span(), format!("there is no {kind} `{name}` on this host"), fix)
            }),
        }
    }
}
