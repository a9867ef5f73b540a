//! Schemas of the types that write themselves as text: what the coordinator's OpenAPI document says
//! of ids, amounts and moments. All other types derive theirs.

use std::borrow::Cow;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};

use crate::amount::{Amount, Units};
use crate::hash::Sha256Hex;
use crate::id::{JobId, LeaseToken, Name, RelativePath};
use crate::time::Timestamp;

macro_rules! text_schemas {
    ($($name:ident: $description:literal, $keyword:literal $value:literal, $example:literal;)*) => {
        $(impl JsonSchema for $name {
            fn schema_name() -> Cow<'static, str> {
                stringify!($name).into()
            }

            fn json_schema(_: &mut SchemaGenerator) -> Schema {
                json_schema!({
                    "type": "string",
                    "description": $description,
                    $keyword: $value,
                    "examples": [$example]
                })
            }
        })*

        #[cfg(test)]
        const EXAMPLES: &[(&str, &str, fn(&str) -> bool)] = &[
            $((stringify!($name), $example, |text| text.parse::<$name>().is_ok()),)*
        ];
    };
}

text_schemas! {
    JobId: "A job: a ULID in upper case.",
        "pattern" "^[0-7][0-9A-HJKMNP-TV-Z]{25}$", "01KFPZSM00F3R0P3W0Y8R4T9QV";
    LeaseToken: "The secret of a lease: 128 bits, base64url without padding.",
        "pattern" "^[A-Za-z0-9_-]{22}$", "AAAAAAAAAAAAAAAAAAAAAQ";
    Name: "A name: printable ASCII without blanks, quotes, / and \\.",
        "pattern" "^[!#-&(-.0-\\[\\]-_a-~]{1,128}$", "host1-gpu0";
    RelativePath: "A path inside of a job's directory: relative, without . and .. parts, with / \
        between its parts, at most 255 bytes.",
        "pattern" "^[^/\\\\]+(/[^/\\\\]+)*$", "results/table.csv";
    Sha256Hex: "SHA-256, as 64 lower-case hexadecimal digits.",
        "pattern" "^[0-9a-f]{64}$",
        "a948904f2f0f479b8f8197694b30184b0d2ed1c1cd2a1ec0fb85d299a192a447";
    Timestamp: "A moment in UTC, with a Z and at most six digits of a second.",
        "format" "date-time", "2026-01-24T00:00:30Z";
    Amount: "Money in AITBC: a decimal number with at most nine places, as text. Whole numbers may \
        be sent as such.",
        "pattern" "^-?[0-9]{1,10}(\\.[0-9]{1,9})?$", "0.23692";
    Units: "Measured work: a decimal number with at most nine places, as text. Whole numbers may \
        be sent as such.",
        "pattern" "^-?[0-9]{1,10}(\\.[0-9]{1,9})?$", "11.846";
}

/// `true`, `false`, and for the sake of shell scripts `1` and `0`.
pub fn bool_or_bit(_: &mut SchemaGenerator) -> Schema {
    json_schema!({"enum": [true, false, 1, 0]})
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_examples_are_what_the_types_read() {
        for (name, example, reads) in EXAMPLES {
            assert!(reads(example), "{name}: {example}");
        }
    }
}
