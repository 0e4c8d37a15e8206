//! Which requests are for which job.

use std::sync::Arc;

use app::{JobName, StackName, Target};

use crate::Failure;
use crate::request::Head;

/// What a request must say to be for a job.
enum Condition {
    Host(String),
    Path(String),
    Cookie(String, String),
    Always,
}

/// Who serves which requests.
pub(crate) struct Rule {
    pub(crate) job: JobName,
    /// Only on this stack.
    stack: Option<StackName>,
    condition: Condition,
}

/// What stands behind `--`.
pub(crate) fn parse(words: &[&str]) -> Result<Arc<[Rule]>, Failure> {
    words.iter().skip(1).map(|word| Rule::parse(word)).collect()
}

/// The first rule that holds for a request.
pub(crate) fn of<'a>(rules: &'a [Rule], head: &Head) -> Option<&'a Rule> {
    rules.iter().find(|rule| rule.holds(head))
}

impl Rule {
    fn parse(text: &str) -> Result<Self, Failure> {
        let (job, condition) = text.split_once('=').map_or((text, None), |(job, rest)| (job, Some(rest)));
        let condition = match condition.map(|c| c.split_once(':').unwrap_or((c, ""))) {
            None => Condition::Always,
            Some(("host", name)) => Condition::Host(name.to_owned()),
            Some(("path", prefix)) => Condition::Path(prefix.to_owned()),
            Some(("cookie", pair)) => {
                let (name, value) = pair.split_once('=').ok_or("cookie:NAME=VALUE")?;
                Condition::Cookie(name.to_owned(), value.to_owned())
            }
            Some((other, _)) => return Err(format!("no condition `{other}`: host, path, cookie").into()),
        };
        let (job, stack) = job.split_once('@').map_or((job, None), |(job, stack)| (job, Some(stack)));
        Ok(Self { job: JobName::new(job)?, stack: stack.map(StackName::new).transpose()?, condition })
    }

    /// The job that such requests are for.
    pub(crate) fn is_for(&self, job: &str) -> bool {
        self.job.as_str() == job
    }

    /// The one target that may serve such requests, if the rule names a stack.
    pub(crate) fn target(&self) -> Option<Target> {
        self.stack.clone().map(|stack| Target { stack, job: self.job.clone() })
    }

    fn holds(&self, head: &Head) -> bool {
        match &self.condition {
            Condition::Host(name) => {
                head.header("host").is_some_and(|h| h.rsplit_once(':').map_or(h, |(host, _)| host) == name)
            }
            Condition::Path(prefix) => head.path().starts_with(prefix),
            Condition::Cookie(name, value) => head.cookie(name) == Some(value),
            Condition::Always => true,
        }
    }
}
