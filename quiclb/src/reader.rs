//! All ways in which the connection IDs of a service are made, told apart by their rotation bits.

use model::quic::{Configuration, ServerId};

use crate::{Algorithm, Destination, Mistake, destination};

/// How many configurations there can be at once.
const ROTATIONS: usize = Configuration::MAX_ROTATION as usize + 1;

/// What reads the connection IDs of a service.
#[derive(Debug, Default)]
pub struct Reader {
    /// By their rotation bits.
    algorithms: [Option<Box<Algorithm>>; ROTATIONS],
}

/// What a datagram's connection ID names.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Named {
    /// A server: its ID, among those with the same rotation bits.
    Server {
        /// The rotation bits, as a number.
        rotation: u8,
        /// The server ID.
        id: ServerId,
    },
    /// None, because the client may have chosen it.
    Clients,
    /// None: there is no configuration with its rotation bits, or it is too short.
    Unroutable,
}

impl Reader {
    /// Of these configurations, and their server IDs are what the configurations say.
    ///
    /// # Errors
    /// What is wrong with one of them, or with two of them together.
    pub fn new(configurations: &[Configuration]) -> Result<Self, Mistake> {
        let mut reader = Self::default();
        for configuration in configurations {
            let algorithm = Algorithm::new(configuration)?;
            let rotation = configuration.rotation;
            let place =
                reader.algorithms.get_mut(usize::from(rotation)).ok_or(Mistake::Rotation(rotation))?;
            if place.replace(Box::new(algorithm)).is_some() {
                return Err(Mistake::RotationTwice(rotation));
            }
            given(configuration)?;
        }
        Ok(reader)
    }

    /// What the connection ID of a client's datagram names.
    pub fn read(&self, datagram: &[u8]) -> Named {
        let to = match destination(datagram) {
            Some(Destination::Clients) => return Named::Clients,
            Some(to @ (Destination::Servers(id) | Destination::BeginsWith(id))) => id.first().zip(Some(to)),
            None => None,
        };
        let named = to.and_then(|(first, to)| {
            let rotation = first >> 5;
            let algorithm = self.algorithms.get(usize::from(rotation))?.as_ref()?;
            Some(Named::Server { rotation, id: algorithm.server_id(to)? })
        });
        named.unwrap_or(Named::Unroutable)
    }
}

/// The server IDs of a configuration are as long as it says, and each is one stack's.
fn given(configuration: &Configuration) -> Result<(), Mistake> {
    for (at, given) in configuration.server_ids.iter().enumerate() {
        let (stack, id) = (&given.stack, given.id);
        if id.as_bytes().len() != usize::from(configuration.server_id_bytes) {
            return Err(Mistake::ServerIdLength(stack.clone(), id));
        }
        if let Some(other) = configuration.server_ids.iter().take(at).find(|other| other.id == id) {
            return Err(Mistake::ServerIdTwice(other.stack.clone(), stack.clone(), id));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests;
