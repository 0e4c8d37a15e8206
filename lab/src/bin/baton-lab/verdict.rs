//! What the demo claims, and what of it held.

use std::process::ExitCode;

/// Statements with their outcome.
#[derive(Debug, Default)]
pub(crate) struct Verdict {
    held: usize,
    failed: Vec<String>,
}

impl Verdict {
    /// Prints a statement with what was seen, and remembers whether it held.
    pub(crate) fn claim(&mut self, statement: &str, held: bool, seen: &str) {
        let word = if held { "held" } else { "DID NOT HOLD" };
        println!("   {word}: {statement} ({seen})");
        if held {
            self.held += 1;
        } else {
            self.failed.push(statement.to_owned());
        }
    }

    /// Prints the last line.
    pub(crate) fn end(self) -> ExitCode {
        if self.failed.is_empty() {
            println!("\nAll {} statements held.", self.held);
            ExitCode::SUCCESS
        } else {
            println!("\n{} statements held; these did not: {}.", self.held, self.failed.join("; "));
            ExitCode::FAILURE
        }
    }
}
