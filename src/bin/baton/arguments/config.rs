//! `baton config` and `baton schema`, as they are typed.

use clap::Subcommand;

pub(super) const SCHEMA_HELP: &str = "\
Editors with Even Better TOML or taplo find it by the first line of a file.

Example:
  baton schema batond > /etc/baton/batond.schema.json
  sed -i '1i #:schema ./batond.schema.json' /etc/baton/batond.toml";

const PATHS: &str = "\
A PATH goes from the file down, with dots: cluster.heartbeat_ms. Which table of a list is meant is said in brackets by its keys, \
vipadynamic.vipadistribute[address=198.18.9.1,ports=80].weights.t1, or by its number from 0; only one: nothing needs to be said. \
`ports=80` also means a list with 80 in it, `ports=` a table without the key. A key with other characters than letters, digits, - and _ is in quotes. \
Quote the whole path for the shell.";

const SET_HELP: &str = "\
VALUE is TOML: 5, true, \"text\", [80, 443], { t1 = 2, t2 = 1 }; a word without spaces and quotes is text. With [+] at the end of PATH one more \
element is added to a list.

The file is written with its comments and layout, and what it says is put in force at once, as by `baton reload`. A file that has a mistake \
then, or needs a restart, is refused, and neither the file nor what runs has changed.

Examples:
  baton config set 'vipadynamic.vipadistribute[address=198.18.9.1,ports=80].weights.t1' 5
  baton config set 'vipadynamic.vipadistribute[address=198.18.9.1].method' least-connections
  baton config set 'vipadynamic.vipadistribute[+]' '{ address = \"198.18.9.1\", ports = [81], destip = \"all\" }'";

/// What is asked or ordered.
#[derive(Debug, Subcommand)]
#[command(after_help = PATHS)]
pub(crate) enum ConfigCommand {
    /// Show what is in force: the whole text, or what is written at PATH.
    #[command(
        after_help = "Example:\n  baton config get 'vipadynamic.vipadistribute[address=198.18.9.1].weights'"
    )]
    Get {
        /// A path; `baton config --help` explains it.
        path: Option<String>,
    },
    /// Set a key in the file, and put it in force.
    #[command(after_help = SET_HELP)]
    Set {
        /// A path; `baton config --help` explains it.
        path: String,
        /// Its value.
        #[arg(allow_hyphen_values = true)]
        value: String,
    },
    /// Remove a key from the file, or a table, so that its default is in force.
    Unset {
        /// A path; `baton config --help` explains it.
        path: String,
    },
    /// What the file says and is not in force, key by key, and whether it needs a restart.
    #[command(after_help = "Exit code 0: the file is in force; 1: it differs.")]
    Diff,
    /// The configurations that were in force, with when, by whom and what changed. 100 are kept, also over a restart.
    History {
        /// Show the text of this one.
        number: Option<u64>,
    },
    /// Put a former configuration in force again, as a whole, and write it into the file.
    #[command(after_help = "Example:\n  baton config history && baton config rollback 3")]
    Rollback {
        /// Its number.
        number: u64,
    },
}
