//! What can be typed for the two daemons. The operator's command reads it too, for their manual pages and completions.

pub(crate) mod agent;
pub(crate) mod batond;
