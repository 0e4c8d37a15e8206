//! Which stack has which server ID.

use model::StackName;
use model::quic::{Configuration, ServerId};
use sha2::{Digest, Sha256};

/// The server IDs of a stack: those that the configuration gives it, or if it gives none to anybody the one that follows from the
/// stack's name.
pub fn server_ids<'a>(
    configuration: &'a Configuration,
    stack: &'a StackName,
) -> impl Iterator<Item = ServerId> + 'a {
    let given = configuration.server_ids.iter().filter(move |given| given.stack == *stack);
    let follows = configuration.server_ids.is_empty();
    given
        .map(|given| given.id)
        .chain(follows.then(|| derived(stack, configuration.server_id_bytes)).flatten())
}

/// The server ID that follows from a stack's name: so many bytes of its SHA-256, the first ones. `None`: a server ID has no so many.
pub fn derived(stack: &StackName, bytes: u8) -> Option<ServerId> {
    Sha256::digest(stack.as_str()).get(..usize::from(bytes)).and_then(ServerId::new)
}

#[cfg(test)]
mod tests {
    use super::*;
    use model::quic::Assigned;

    #[test]
    fn a_stacks_server_id_is_the_one_it_was_given_or_the_beginning_of_its_names_digest() {
        let [t1, t2] = ["t1", "t2"].map(|name| StackName::new(name).unwrap());
        let mut configuration = Configuration {
            rotation: 0,
            server_id_bytes: 4,
            nonce_bytes: 4,
            key: None,
            length_in_first_octet: false,
            server_ids: Vec::new(),
        };
        let of = |configuration: &Configuration, stack: &StackName| {
            server_ids(configuration, stack).map(|id| id.to_string()).collect::<Vec<_>>()
        };
        // printf %s t1 | sha256sum
        assert_eq!(of(&configuration, &t1), ["628b49d9"]);
        let given = |id: &str| Assigned { stack: t1.clone(), id: id.parse().unwrap() };
        configuration.server_ids = vec![given("00000001"), given("00000002")];
        assert_eq!(of(&configuration, &t1), ["00000001", "00000002"]);
        assert!(of(&configuration, &t2).is_empty());
    }
}
