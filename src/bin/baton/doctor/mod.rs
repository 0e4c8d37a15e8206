//! `baton doctor`: looks at a host before and after set-up, and names what is in the way: what, why it matters, and the command that
//! mends it.
//!
//! In reading order: [`host`] (what a host looks like), [`picture`] (that, what the programs' configuration files ask of it, and what the
//! programs say that run), [`checks`] (one function each, over a picture), [`finding`] (what they find, and what `--fix` does about it).

mod checks;
mod finding;
mod host;
mod picture;
mod setup;

#[cfg(test)]
mod tests;

use serde_json::json;

use crate::arguments::DoctorArguments;
use crate::failure::Failure;
use finding::{Finding, Severity};
use picture::Picture;

pub(crate) use setup::run as setup;

/// Looks, mends what is safe if that is asked for, and says what there is.
pub(crate) fn run(arguments: &DoctorArguments, json: bool) -> Result<String, Failure> {
    let picture = Picture::take(arguments)?;
    let mut findings = checks::all(&picture);
    let mut done = Vec::new();
    if arguments.fix {
        let fixes: Vec<_> =
            findings.iter().filter_map(|finding| Some((finding.check, finding.fix.clone()?))).collect();
        for (check, fix) in fixes {
            done.push(match fix.apply() {
                Ok(()) => format!("{check}: {fix}: done"),
                Err(cause) => format!("{check}: {fix}: {cause}"),
            });
        }
        if !done.is_empty() {
            findings = checks::all(&Picture::take(arguments)?);
        }
    }
    let text = if json { as_json(&picture, &findings, &done)? } else { as_text(&picture, &findings, &done) };
    let is_wrong = findings.iter().any(|finding| finding.severity == Severity::Error);
    if is_wrong { Err(Failure::Shown(text)) } else { Ok(text) }
}

fn as_json(picture: &Picture, findings: &[Finding], done: &[String]) -> Result<String, Failure> {
    let answer = json!({ "kernel": picture.host.kernel, "checks": checks::NAMES, "findings": findings, "fixed": done });
    serde_json::to_string_pretty(&answer).map(|text| text + "\n").map_err(|e| Failure::Text(e.to_string()))
}

fn as_text(picture: &Picture, findings: &[Finding], done: &[String]) -> String {
    let mut text = format!("Linux {}, looked at for {}\n", picture.host.kernel, picture.roles());
    done.iter().for_each(|line| text.push_str(&format!("fixed    {line}\n")));
    for Finding { check, severity, what, why, mend, .. } in findings {
        text.push_str(&format!(
            "\n{:8} {check}: {what}\n         why:  {why}\n         mend: {mend}\n",
            severity.word()
        ));
    }
    let of = |severity| findings.iter().filter(|finding| finding.severity == severity).count();
    let named = findings.iter().map(|finding| finding.check).collect::<std::collections::BTreeSet<_>>().len();
    text.push_str(&format!(
        "\n{} errors, {} warnings; {} of {} checks found nothing\n",
        of(Severity::Error),
        of(Severity::Warning),
        checks::NAMES.len() - named,
        checks::NAMES.len()
    ));
    text
}
