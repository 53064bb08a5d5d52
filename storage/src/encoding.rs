//! Encodes everything that is stored or sent, with a version byte in front. The only file that
//! names bincode.
//!
//! A reader that meets a version that it does not know refuses the value instead of guessing.

use serde::{Serialize, de::DeserializeOwned};

use crate::error::{Error, Result};

/// The version that [`encode`] writes.
const VERSION: u8 = 2;

/// The most memory that a decoded value may take, so that a forged length cannot claim more. The
/// largest honest value, a message with a piece of a snapshot, has a few megabytes.
const LARGEST: usize = 64 * 1024 * 1024;

/// Encodes a value behind its version byte.
///
/// # Errors
/// [`Error::Encoding`] if the value cannot be represented.
pub fn encode<T: Serialize>(what: &'static str, value: &T) -> Result<Vec<u8>> {
    let mut bytes = Vec::new();
    encode_onto(&mut bytes, what, value)?;
    Ok(bytes)
}

/// Encodes a value at the end of `bytes`.
///
/// # Errors
/// As [`encode`]. What was appended before the error stays.
pub fn encode_onto<T: Serialize>(bytes: &mut Vec<u8>, what: &'static str, value: &T) -> Result<()> {
    bytes.push(VERSION);
    bincode::serde::encode_into_std_write(value, bytes, bincode::config::standard()).map_err(
        |error| Error::Encoding {
            what,
            reason: error.to_string(),
        },
    )?;
    Ok(())
}

/// Decodes what [`encode`] wrote.
///
/// # Errors
/// [`Error::Encoding`] for an unknown version, a damaged value, or extra bytes.
pub fn decode<T: DeserializeOwned>(what: &'static str, bytes: &[u8]) -> Result<T> {
    let refuse = |reason: String| Error::Encoding { what, reason };
    let Some((&version, body)) = bytes.split_first() else {
        return Err(refuse("it is empty".into()));
    };
    if version != VERSION {
        return Err(refuse(format!(
            "format version {version} is not supported, only {VERSION} is"
        )));
    }
    let config = bincode::config::standard().with_limit::<LARGEST>();
    let (value, read) = bincode::serde::decode_from_slice(body, config)
        .map_err(|error| refuse(error.to_string()))?;
    if read != body.len() {
        return Err(refuse(format!("{} extra bytes follow", body.len() - read)));
    }
    Ok(value)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_back_what_it_wrote() {
        let value = (7u64, "orders".to_string(), Some(-1i64));
        let bytes = encode("a test value", &value).unwrap();
        assert_eq!(bytes[0], VERSION);
        assert_eq!(
            decode::<(u64, String, Option<i64>)>("a test value", &bytes).unwrap(),
            value
        );
    }

    #[test]
    fn refuses_what_it_did_not_write() {
        let mut bytes = encode("a test value", &7u64).unwrap();
        for (damage, reason) in [
            (vec![], "it is empty"),
            (vec![9, 7], "format version 9"),
            (vec![VERSION], "UnexpectedEnd"),
        ] {
            let error = decode::<u64>("a test value", &damage).unwrap_err();
            assert!(error.to_string().contains(reason), "{error}");
        }
        bytes.push(0);
        let error = decode::<u64>("a test value", &bytes).unwrap_err();
        assert!(
            error.to_string().contains("1 extra bytes follow"),
            "{error}"
        );
    }

    #[test]
    fn a_forged_length_does_not_reserve_memory() {
        // A Vec<u8> that claims 2^62 elements in ten bytes.
        let forged = [VERSION, 253, 0, 0, 0, 0, 0, 0, 0, 64];
        assert!(decode::<Vec<u8>>("a test value", &forged).is_err());
        assert!(decode::<Vec<String>>("a test value", &forged).is_err());
        // This one is reserved before it is read.
        assert!(decode::<String>("a test value", &forged).is_err());
    }
}
