//! The envelope: what the bytes are, how long, and whether they are whole.
//!
//! | bytes | what |
//! |---|---|
//! | 2 | `rg` |
//! | 1 | kind of record |
//! | 2 | version of its layout |
//! | 1 | flags, none yet |
//! | 4 | length of the payload |
//! | 8 | fingerprint of its shape |
//! | 4 | CRC-32 over all of the above and the payload |
//!
//! All numbers are little-endian.

use serde::Serialize;
use serde::de::DeserializeOwned;

use super::shape;

const MAGIC: [u8; 2] = *b"rg";
/// Bytes before the payload.
const HEADER: usize = 22;
/// Bytes of the header that the checksum covers.
const COVERED: usize = HEADER - 4;

/// The longest payload: what fits into memory many times over, and what a disk takes within a stop's timeout.
const MAX_PAYLOAD: usize = 16 << 20;

/// The longest record.
pub(crate) const MAX_RECORD: usize = HEADER + MAX_PAYLOAD;

/// What a record is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    /// The state of an actor worker.
    ActorState,
    /// An event of the journal.
    Event,
    /// What an instance has behind it.
    Totals,
    /// How many events of each kind there were.
    EventCounts,
    /// An incident.
    Incident,
    /// What came of a step of recovery.
    Outcome,
    /// What all instances were like at one moment.
    Sweep,
    /// What one instance was like for a while.
    Block,
    /// Counts that only the metrics page has.
    Tallies,
    /// Steps of recovery that an instance has behind it.
    Steps,
    /// What all instances were like at several moments, of which each was like the one before.
    Stretch,
}

impl Kind {
    fn number(self) -> u8 {
        match self {
            Self::ActorState => 1,
            Self::Event => 2,
            Self::Totals => 3,
            Self::EventCounts => 4,
            Self::Incident => 5,
            Self::Outcome => 6,
            Self::Sweep => 7,
            Self::Block => 8,
            Self::Tallies => 9,
            Self::Steps => 10,
            Self::Stretch => 11,
        }
    }

    /// Raised when the envelope or the encoding changes, so that an older program refuses what it cannot know.
    fn version(self) -> u16 {
        match self {
            Self::ActorState
            | Self::Event
            | Self::Totals
            | Self::EventCounts
            | Self::Incident
            | Self::Outcome
            | Self::Sweep
            | Self::Block
            | Self::Tallies
            | Self::Steps
            | Self::Stretch => 1,
        }
    }
}

/// Why bytes cannot be read back, or a value cannot be written.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub(crate) enum Unreadable {
    /// The file ends before its envelope does.
    #[error("it is cut off after {0} bytes")]
    CutOff(usize),
    /// It does not begin as our files do.
    #[error("it is no file of regrow")]
    Foreign,
    /// It is another kind of record.
    #[error("it holds another kind of record ({0})")]
    OtherKind(u8),
    /// A newer or older regrow wrote it.
    #[error("its layout is version {0}, this program reads {1}")]
    OtherVersion(u16, u16),
    /// The checksum or the length is wrong.
    #[error("it is damaged: {0}")]
    Damaged(&'static str),
    /// The type it is read into is not the one that was written.
    #[error("it was written by another version of the program: {0}")]
    OtherShape(String),
    /// The value is longer than a record may be.
    #[error("{0} bytes are more than the {MAX_PAYLOAD} that are kept")]
    TooLong(usize),
    /// The value cannot be written in this encoding.
    #[error("it cannot be written: {0}")]
    Unwritable(String),
}

/// A record of this value.
///
/// # Errors
/// It is too long, or of a type that this encoding cannot take (`serde(flatten)`, `serde(untagged)`).
pub(crate) fn encode<T: Serialize>(kind: Kind, value: &T) -> Result<Vec<u8>, Unreadable> {
    let mut bytes = vec![0; HEADER];
    bincode::serde::encode_into_std_write(value, &mut bytes, bincode::config::standard())
        .map_err(|error| Unreadable::Unwritable(error.to_string()))?;
    let length = bytes.len() - HEADER;
    if length > MAX_PAYLOAD {
        return Err(Unreadable::TooLong(length));
    }
    bytes[..2].copy_from_slice(&MAGIC);
    bytes[2] = kind.number();
    bytes[3..5].copy_from_slice(&kind.version().to_le_bytes());
    bytes[6..10].copy_from_slice(&u32::try_from(length).unwrap_or(u32::MAX).to_le_bytes());
    bytes[10..18].copy_from_slice(&shape::of(value)?.to_le_bytes());
    let sum = checksum(&bytes);
    bytes[COVERED..HEADER].copy_from_slice(&sum.to_le_bytes());
    Ok(bytes)
}

/// The value of a record.
///
/// # Errors
/// [`Unreadable`] says what is wrong with the bytes.
pub(crate) fn decode<T: Serialize + DeserializeOwned>(kind: Kind, bytes: &[u8]) -> Result<T, Unreadable> {
    let shape = check(kind, bytes)?;
    let payload = &bytes[HEADER..];
    let config = bincode::config::standard().with_limit::<MAX_PAYLOAD>();
    let (value, consumed) = bincode::serde::decode_from_slice::<T, _>(payload, config)
        .map_err(|error| Unreadable::OtherShape(error.to_string()))?;
    if consumed != payload.len() {
        let left = payload.len() - consumed;
        return Err(Unreadable::OtherShape(format!("{left} of its bytes have no place any more")));
    }
    if shape::of(&value)? != shape {
        return Err(Unreadable::OtherShape("its fields have other names, types or places".to_owned()));
    }
    Ok(value)
}

/// Checks the envelope and gives the fingerprint in it.
fn check(kind: Kind, bytes: &[u8]) -> Result<u64, Unreadable> {
    let Some((header, payload)) = bytes.split_at_checked(HEADER) else {
        return Err(Unreadable::CutOff(bytes.len()));
    };
    if header[..2] != MAGIC {
        return Err(Unreadable::Foreign);
    }
    if header[2] != kind.number() {
        return Err(Unreadable::OtherKind(header[2]));
    }
    let version = u16::from_le_bytes([header[3], header[4]]);
    if version != kind.version() {
        return Err(Unreadable::OtherVersion(version, kind.version()));
    }
    let length = u32::from_le_bytes([header[6], header[7], header[8], header[9]]);
    if usize::try_from(length) != Ok(payload.len()) {
        return Err(Unreadable::Damaged("its length is wrong"));
    }
    if checksum(bytes).to_le_bytes() != header[COVERED..HEADER] {
        return Err(Unreadable::Damaged("its checksum is wrong"));
    }
    let mut shape = [0; 8];
    shape.copy_from_slice(&header[10..18]);
    Ok(u64::from_le_bytes(shape))
}

fn checksum(bytes: &[u8]) -> u32 {
    let mut sum = crc32fast::Hasher::new();
    sum.update(&bytes[..COVERED]);
    sum.update(&bytes[HEADER..]);
    sum.finalize()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde::{Deserialize, Serialize};

    use super::*;

    #[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
    struct Thumbs {
        done: u64,
        names: Vec<String>,
        last: Option<i32>,
    }

    fn thumbs() -> Thumbs {
        Thumbs { done: 7, names: vec!["a".to_owned(), "ü".to_owned()], last: Some(-1) }
    }

    fn bytes() -> Vec<u8> {
        encode(Kind::ActorState, &thumbs()).unwrap()
    }

    #[test]
    fn what_was_written_is_read_back() {
        assert_eq!(decode::<Thumbs>(Kind::ActorState, &bytes()), Ok(thumbs()));
        assert_eq!(decode::<()>(Kind::ActorState, &encode(Kind::ActorState, &()).unwrap()), Ok(()));
    }

    #[test]
    fn the_layout_of_version_one_never_changes() {
        let golden = "72670101000009000000";
        let head: String = bytes()[..10].iter().map(|byte| format!("{byte:02x}")).collect();
        let payload: String = bytes()[HEADER..].iter().map(|byte| format!("{byte:02x}")).collect();
        assert_eq!((head.as_str(), payload.as_str()), (golden, "0702016102c3bc0101"));
    }

    #[test]
    fn a_struct_that_has_changed_is_told_and_never_misread() {
        #[derive(Debug, PartialEq, Serialize, Deserialize)]
        struct Thumbs {
            done: u64,
            names: Vec<String>,
            last: Option<i32>,
            added: bool,
        }
        let read = decode::<Thumbs>(Kind::ActorState, &bytes());
        assert!(matches!(read, Err(Unreadable::OtherShape(_))), "{read:?}");
    }

    #[test]
    fn fields_that_changed_places_are_noticed_though_the_bytes_fit() {
        #[derive(Serialize)]
        struct Before {
            width: u32,
            height: u32,
        }
        #[derive(Debug, Serialize, Deserialize)]
        struct After {
            height: u32,
            width: u32,
        }
        let bytes = encode(Kind::ActorState, &Before { width: 4, height: 3 }).unwrap();
        let read = decode::<After>(Kind::ActorState, &bytes);
        assert!(matches!(read, Err(Unreadable::OtherShape(_))), "{read:?}");
    }

    #[test]
    fn a_length_from_nowhere_takes_no_memory() {
        let mut bytes = bytes();
        let payload = [0x07, 253, 0, 0, 0, 0, 0, 1, 0, 0];
        bytes.truncate(HEADER);
        bytes.extend(payload);
        bytes[6..10].copy_from_slice(&10_u32.to_le_bytes());
        let sum = checksum(&bytes);
        bytes[COVERED..HEADER].copy_from_slice(&sum.to_le_bytes());
        assert!(matches!(decode::<Thumbs>(Kind::ActorState, &bytes), Err(Unreadable::OtherShape(_))));
    }

    proptest! {
        #[test]
        fn any_bytes_give_an_answer(noise in proptest::collection::vec(any::<u8>(), 0..200)) {
            prop_assert!(decode::<Thumbs>(Kind::ActorState, &noise).is_err());
        }

        #[test]
        fn one_changed_bit_is_always_noticed(at in 0_usize..31, bit in 0_u8..8) {
            let mut bytes = bytes();
            bytes[at] ^= 1 << bit;
            prop_assert!(decode::<Thumbs>(Kind::ActorState, &bytes).is_err());
        }
    }
}
