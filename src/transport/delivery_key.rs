//! The key of a delivery, where the transport's own store keeps the keys: asked for, then held or refused, and given back with the end of
//! its task.

use crate::task::Handle;

/// The key of a delivery.
#[derive(Debug, Default)]
pub(super) enum DeliveryKey {
    /// It has none: none was asked for, or another task has it.
    #[default]
    None,
    /// The store is still to be asked.
    Asked(String),
    /// It is stored as this delivery's.
    Held(String),
}

impl DeliveryKey {
    /// A key is asked for. False: one was before, and this is ignored.
    pub(super) fn ask(&mut self, key: String) -> bool {
        let is_first = matches!(self, Self::None);
        if is_first {
            *self = Self::Asked(key);
        }
        is_first
    }

    /// The store has answered: it is ours, or another task's.
    pub(super) fn answered(&mut self, is_ours: bool) {
        *self = match std::mem::take(self) {
            Self::Asked(key) if is_ours => Self::Held(key),
            _ => Self::None,
        };
    }

    /// The delivery is settled. Gives the key that the store is to give back; one that it was not asked for yet is not `asked` for any more.
    pub(super) fn end(&mut self, handle: Handle, asked: &mut Vec<Handle>) -> Option<String> {
        match std::mem::take(self) {
            Self::Held(key) => Some(key),
            Self::Asked(_) => {
                asked.retain(|asked| *asked != handle);
                None
            }
            Self::None => None,
        }
    }
}
