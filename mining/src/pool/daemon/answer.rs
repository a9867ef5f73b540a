//! What a Monero daemon answers.

use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::Value;

use super::super::dialect::{Malformed, Refusal, told};
use crate::work::MONERO_NONCE_AT;

/// The largest answer, in bytes: a template lists the hashes of all of a block's transactions.
pub const LARGEST_ANSWER: usize = 4 << 20;

/// The versions of blocks whose proof of work is RandomX as this build has it: from Monero's v12 on.
/// Behind v16 another RandomX is planned.
const VERSIONS: std::ops::RangeInclusive<u8> = 12..=16;

/// A block that lacks its nonce.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Template {
    /// What is hashed.
    pub hashing_blob: Vec<u8>,
    /// The block.
    pub block: Vec<u8>,
    /// How many hashes it takes on average.
    pub difficulty: u64,
    /// Its height.
    pub height: u64,
    /// The hash of the block before.
    pub previous: [u8; 32],
    /// RandomX's seed.
    pub seed: [u8; 32],
    /// The one after it, once it is known.
    pub next_seed: Option<[u8; 32]>,
}

/// The end of the chain.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct Tip {
    /// How many blocks there are.
    pub height: u64,
    /// The hash of the last one.
    pub hash: String,
}

/// What is known of a block of the chain.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct Header {
    /// Its nonce.
    pub nonce: u32,
    /// The hash of the block before.
    pub prev_hash: String,
}

#[derive(Deserialize)]
struct Envelope {
    #[serde(default)]
    result: Option<Value>,
    #[serde(default)]
    error: Option<Value>,
}

#[derive(Deserialize)]
struct Written {
    blockhashing_blob: String,
    blocktemplate_blob: String,
    difficulty: u64,
    #[serde(default)]
    wide_difficulty: Option<String>,
    height: u64,
    prev_hash: String,
    seed_hash: String,
    #[serde(default)]
    next_seed_hash: String,
}

impl Template {
    /// Reads the answer to `get_block_template`.
    ///
    /// # Errors
    /// What is no such answer, or makes no sense; inside of it, what the daemon refuses.
    pub fn parse(body: &[u8]) -> Result<Result<Self, Refusal>, Malformed> {
        match result::<Written>(body)? {
            Ok(written) => read(written).map(Ok).map_err(|why| Malformed::new("template", &why)),
            Err(refusal) => Ok(Err(refusal)),
        }
    }

    /// The block with a nonce.
    pub fn with_nonce(&self, nonce: u32) -> Vec<u8> {
        let mut block = self.block.clone();
        if let Some(place) = block.get_mut(MONERO_NONCE_AT..MONERO_NONCE_AT + 4) {
            place.copy_from_slice(&nonce.to_le_bytes());
        }
        block
    }
}

impl Tip {
    /// Reads the answer to `/getheight`.
    ///
    /// # Errors
    /// What is no such answer.
    pub fn parse(body: &[u8]) -> Result<Self, Malformed> {
        serde_json::from_slice(body).map_err(|error| Malformed::new("height", &error))
    }
}

impl Header {
    /// Reads the answer to `get_block_header_by_height`.
    ///
    /// # Errors
    /// What is no such answer; inside of it, that there is no such block, mostly.
    pub fn parse(body: &[u8]) -> Result<Result<Self, Refusal>, Malformed> {
        #[derive(Deserialize)]
        struct Found {
            block_header: Header,
        }
        Ok(result::<Found>(body)?.map(|found| found.block_header))
    }
}

/// Reads the answer to `submit_block`.
///
/// # Errors
/// What is no such answer; inside of it, why the block is not taken.
pub fn submitted(body: &[u8]) -> Result<Result<(), Refusal>, Malformed> {
    #[derive(Deserialize)]
    struct Status {
        status: String,
    }
    Ok(match result::<Status>(body)? {
        Ok(Status { status }) if status == "OK" => Ok(()),
        Ok(Status { status }) => Err(Refusal::new(None, &status)),
        Err(refusal) => Err(refusal),
    })
}

fn result<T: DeserializeOwned>(body: &[u8]) -> Result<Result<T, Refusal>, Malformed> {
    let malformed = |error| Malformed::new("answer", &error);
    let envelope: Envelope = serde_json::from_slice(body).map_err(malformed)?;
    if let Some(error) = envelope.error.filter(|error| !error.is_null()) {
        let message = error.get("message").unwrap_or(&error);
        let message = message.as_str().map_or_else(|| message.to_string(), str::to_owned);
        return Ok(Err(Refusal::new(error.get("code").and_then(Value::as_i64), &message)));
    }
    let result = envelope.result.unwrap_or_default();
    serde_json::from_value(result).map(Ok).map_err(malformed)
}

fn read(written: Written) -> Result<Template, String> {
    let bytes =
        |name: &str, text: &str| hex::decode(text).map_err(|error| format!("{name}: {error}"));
    let hashing_blob = bytes("blockhashing_blob", &written.blockhashing_blob)?;
    let block = bytes("blocktemplate_blob", &written.blocktemplate_blob)?;
    let head = MONERO_NONCE_AT + 4;
    // Both begin with the block's header, whose last part is the nonce.
    if hashing_blob.len() < head || hashing_blob.get(..head) != block.get(..head) {
        return Err("its two blobs do not begin with the same header".to_owned());
    }
    let version = hashing_blob[0];
    if !VERSIONS.contains(&version) {
        return Err(format!("blocks of version {version} have another proof of work"));
    }
    let difficulty = match &written.wide_difficulty {
        None => written.difficulty,
        Some(wide) => {
            let digits = wide.strip_prefix("0x").unwrap_or(wide);
            u64::from_str_radix(digits, 16).map_err(|_| format!("difficulty {:?}", told(wide)))?
        }
    };
    if difficulty == 0 {
        return Err("difficulty 0".to_owned());
    }
    Ok(Template {
        previous: hash("prev_hash", &written.prev_hash)?,
        seed: hash("seed_hash", &written.seed_hash)?,
        next_seed: match written.next_seed_hash.as_str() {
            "" => None,
            text => Some(hash("next_seed_hash", text)?),
        },
        hashing_blob,
        block,
        difficulty,
        height: written.height,
    })
}

fn hash(name: &str, text: &str) -> Result<[u8; 32], String> {
    let mut hash = [0; 32];
    hex::decode_to_slice(text, &mut hash).map_err(|error| format!("{name}: {error}"))?;
    Ok(hash)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn template() -> Value {
        // As monerod 0.18 wrote it in regtest.
        let head = "101084c08cd806418015bb9ae982a1975da7d79277c2705727a56894ba0fb246adaabb1f4632e3\
            00000000";
        let seed = "418015bb9ae982a1975da7d79277c2705727a56894ba0fb246adaabb1f4632e3";
        json!({
            "blockhashing_blob": format!("{head}0e9b8d02211139a8b3afe4173f7b6914ed03eb85e4883640f50\
                e16fa3d108f1001"),
            "blocktemplate_blob": format!("{head}023d01ff0101808080f0ffff0703baebef"),
            "difficulty": 200, "difficulty_top64": 0, "height": 1, "next_seed_hash": "",
            "prev_hash": seed, "reserved_offset": 126, "seed_hash": seed, "seed_height": 0,
            "status": "OK", "wide_difficulty": "0xc8",
        })
    }

    fn parse(result: &Value) -> Result<Result<Template, Refusal>, Malformed> {
        Template::parse(json!({"id": "0", "result": result}).to_string().as_bytes())
    }

    fn with(key: &str, value: Value) -> Result<Result<Template, Refusal>, Malformed> {
        let mut template = template();
        template[key] = value;
        parse(&template)
    }

    #[test]
    fn a_template_is_read_and_gets_its_nonce() {
        let template = parse(&template()).unwrap().unwrap();
        assert_eq!((template.difficulty, template.height, template.next_seed), (200, 1, None));
        let block = template.with_nonce(0x0403_0201);
        assert_eq!(block[39..43], [1, 2, 3, 4]);
        assert_eq!(block.len(), template.block.len());
    }

    #[test]
    fn difficulties_may_be_wide_but_not_too_wide() {
        let wide =
            |text: &str| with("wide_difficulty", json!(text)).map(|it| it.unwrap().difficulty);
        assert_eq!(wide("0xffffffffffffffff"), Ok(u64::MAX));
        assert!(wide("0x10000000000000000").is_err());
        assert!(wide("0x0").is_err() && wide("x").is_err());
        let mut narrow = template();
        narrow.as_object_mut().unwrap().remove("wide_difficulty");
        assert_eq!(parse(&narrow).unwrap().unwrap().difficulty, 200);
    }

    #[test]
    fn what_makes_no_sense_is_refused() {
        for (key, value) in [
            ("blockhashing_blob", json!("10")),
            ("blocktemplate_blob", json!("zz")),
            ("blocktemplate_blob", json!("11".repeat(80))),
            ("prev_hash", json!("00")),
            ("seed_hash", json!(null)),
            ("next_seed_hash", json!("00")),
            ("height", json!(-1)),
        ] {
            assert!(with(key, value.clone()).is_err(), "{key}: {value}");
        }
        let mut later = template();
        for key in ["blockhashing_blob", "blocktemplate_blob"] {
            later[key] = json!(format!("11{}", &later[key].as_str().unwrap()[2..]));
        }
        let error = parse(&later).unwrap_err().to_string();
        assert!(error.contains("version 17"), "{error}");
    }

    #[test]
    fn refusals_are_answers() {
        let busy = br#"{"error":{"code":-9,"message":"Core is busy"}}"#;
        assert_eq!(Template::parse(busy), Ok(Err(Refusal::new(Some(-9), "Core is busy"))));
        let bad = br#"{"error":{"code":-7,"message":"Block not accepted"}}"#;
        assert_eq!(submitted(bad), Ok(Err(Refusal::new(Some(-7), "Block not accepted"))));
        assert_eq!(submitted(br#"{"result":{"status":"OK"}}"#), Ok(Ok(())));
        let found = br#"{"result":{"block_header":{"nonce":7,"prev_hash":"ab","height":1}}}"#;
        let header = Header { nonce: 7, prev_hash: "ab".to_owned() };
        assert_eq!(Header::parse(found), Ok(Ok(header)));
        let above = br#"{"error":{"code":-2,"message":"Requested block height: 9 greater"}}"#;
        assert!(Header::parse(above).unwrap().is_err() && Header::parse(b"{}").is_err());
        assert!(submitted(br#"{"result":{}}"#).is_err() && submitted(b"").is_err());
        assert!(Tip::parse(br#"{"height":1,"hash":"ab"}"#).is_ok() && Tip::parse(b"[]").is_err());
    }
}
