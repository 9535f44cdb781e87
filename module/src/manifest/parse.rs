//! The text of a `manifest.json`, bounded: `{version, createdAt, genes: [{name, sha256, cid, astHash, …}]}`.
//!
//! Fields that are not needed here are skipped, whatever they hold. A gene whose values cannot be used is left out
//! and told about; text that is not such a manifest is refused whole. Errors never repeat the text. An empty value is as
//! good as none.

use serde::Deserialize;
use serde::de::{Deserializer, Error as _, IgnoredAny, SeqAccess, Visitor};
use serde_json::value::RawValue;

use crate::verify::Digest;
use crate::want::{Want, parse_digest};

/// Bytes of a manifest that are read at most.
pub(super) const MAX_BYTES: u64 = 16 << 20;
/// Genes that one manifest may list.
const MAX_GENES: usize = 65_536;
/// A name and `.wasm` make a file name of at most 255 bytes.
const MAX_NAME: usize = 250;

/// One usable entry.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Gene {
    pub(super) name: String,
    /// `<name>.wasm`, where that is a file name that stays in its folder.
    pub(super) file: Option<String>,
    pub(super) ast: Option<Digest>,
    /// What it names: its CID, or else the sha256 of its bytes.
    pub(super) want: Want,
    /// The sha256 of its bytes, where it says so.
    pub(super) sha256: Option<Digest>,
}

/// A manifest as read: what can be used, and what is wrong with the rest.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Manifest {
    pub(super) genes: Vec<Gene>,
    pub(super) troubles: Vec<String>,
}

/// Troubles that are kept for the telling.
const MAX_TROUBLES: usize = 3;

#[derive(Deserialize)]
struct Document {
    genes: Genes,
}

#[derive(Deserialize)]
struct Entry {
    #[serde(default)]
    name: Option<String>,
    #[serde(default)]
    sha256: Option<String>,
    #[serde(default)]
    cid: Option<String>,
    #[serde(default, alias = "ast_hash", rename = "astHash")]
    ast_hash: Option<String>,
}

/// Reads entries one by one, so that a list of millions ends at the bound and not in memory.
struct Genes(Manifest);

impl<'de> Deserialize<'de> for Genes {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Entries;
        impl<'de> Visitor<'de> for Entries {
            type Value = Manifest;

            fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str("a list of genes")
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Manifest, A::Error> {
                let mut manifest = Manifest::default();
                for number in 1..=MAX_GENES {
                    let Some(entry) = seq.next_element::<&RawValue>()? else { return Ok(manifest) };
                    // By itself, so that one of another form does not take the others along.
                    let entry = serde_json::from_str(entry.get());
                    match entry.map_err(|_| "it has another form than a gene's".to_owned()).and_then(gene) {
                        Ok(gene) => manifest.genes.push(gene),
                        Err(why) if manifest.troubles.len() < MAX_TROUBLES => {
                            manifest.troubles.push(format!("gene {number} is left out: {why}"));
                        }
                        Err(_) => {}
                    }
                }
                match seq.next_element::<IgnoredAny>()? {
                    None => Ok(manifest),
                    Some(_) => Err(A::Error::custom("too many genes")),
                }
            }
        }
        deserializer.deserialize_seq(Entries).map(Genes)
    }
}

/// Reads a manifest's text. The error is a clause without its contents.
pub(super) fn parse(text: &[u8]) -> Result<Manifest, String> {
    let document: Document = serde_json::from_slice(text).map_err(|error| {
        let what = match error.classify() {
            serde_json::error::Category::Data => "is not a manifest",
            _ => "is not JSON",
        };
        format!("{what} (line {} column {})", error.line(), error.column())
    })?;
    Ok(document.genes.0)
}

fn gene(entry: Entry) -> Result<Gene, String> {
    let given = |text: Option<String>| text.filter(|text| !text.is_empty());
    let name = given(entry.name).ok_or("it has no name")?;
    if name.len() > MAX_NAME {
        return Err("its name is too long".to_owned());
    }
    // A name such as `@org/add` is no file's. Its module may still be found by its CID.
    let file = harmless(&name).then(|| format!("{name}.wasm"));
    let sha256 = match given(entry.sha256) {
        Some(text) => Some(parse_digest(&text).ok_or("its sha256 is not 64 hex digits")?),
        None => None,
    };
    let ast = match given(entry.ast_hash) {
        Some(text) => Some(parse_digest(&text).ok_or("its astHash is not sha256: and 64 hex digits")?),
        None => None,
    };
    let want = match (given(entry.cid), sha256) {
        (Some(cid), _) => Want::parse(&cid).map_err(|why| format!("its CID is refused: {why}"))?,
        (None, Some(digest)) => Want::Raw(digest),
        (None, None) => return Err("it has neither a CID nor a sha256".to_owned()),
    };
    if let (Want::Raw(of_cid), Some(stated)) = (&want, &sha256)
        && of_cid != stated
    {
        return Err("its CID and its sha256 name different bytes".to_owned());
    }
    Ok(Gene { name, file, ast, want, sha256 })
}

/// Whether `<name>.wasm` is a file name that stays in its folder.
fn harmless(name: &str) -> bool {
    let bad = |c: char| c == '/' || c == '\\' || c.is_control();
    name != "." && name != ".." && !name.contains(bad)
}

#[cfg(test)]
mod tests {
    use super::*;

    const CID: &str = "bafkreibhmtmv24yn2zu7udv53bwwvgrylzhbep2e52p72tly7wjiufzpom";
    const SHA: &str = "2764d95d730dd669fa0ebdd86d6a9a385e4e123f44ee9ffd4d78fd928a172f73";

    fn one(fields: &str) -> Manifest {
        parse(format!(r#"{{"version":"1","genes":[{{{fields}}}]}}"#).as_bytes()).unwrap()
    }

    #[test]
    fn a_gene_with_all_its_fields() {
        let read = one(&format!(
            r#""name":"add","lang":"wat","entry":"add(i32,i32)->i32","sha256":"{SHA}","cid":"{CID}","size":41,
               "astHash":"sha256:{SHA}","more":[{{}}]"#
        ));
        let digest = parse_digest(SHA).unwrap();
        let gene = Gene {
            name: "add".into(),
            file: Some("add.wasm".into()),
            ast: Some(digest),
            want: Want::Raw(digest),
            sha256: Some(digest),
        };
        assert_eq!(read, Manifest { genes: vec![gene], troubles: vec![] });
    }

    #[test]
    fn a_name_that_is_no_file_name_costs_the_file_by_that_name_alone() {
        for name in ["@org/add", "../add", "..", r"a\\b", r"a\u0000b"] {
            let read = one(&format!(r#""name":"{name}","cid":"{CID}""#));
            assert!(read.genes[0].file.is_none() && read.troubles.is_empty(), "{name}: {read:?}");
        }
    }

    #[test]
    fn what_is_empty_is_absent() {
        let read = one(&format!(r#""name":"add","sha256":"{SHA}","cid":"","astHash":"""#));
        assert_eq!((read.genes[0].ast, read.genes[0].want), (None, Want::Raw(parse_digest(SHA).unwrap())));
    }

    #[test]
    fn a_gene_of_another_form_is_left_out_alone() {
        let good = format!(r#"{{"name":"add","cid":"{CID}"}}"#);
        for bad in
            [r#""secret""#, "5", r#"{"name":5}"#, r#"{"name":"x","cid":{}}"#, r#"{"name":"x","name":"y"}"#]
        {
            let read = parse(format!(r#"{{"genes":[{bad},{good}]}}"#).as_bytes()).unwrap();
            assert_eq!(read.genes.len(), 1, "{bad}");
            assert_eq!(read.troubles, ["gene 1 is left out: it has another form than a gene's"]);
        }
    }

    #[test]
    fn genes_that_cannot_be_used_are_left_out_with_a_reason() {
        let long = "x".repeat(300);
        for (fields, why) in [
            (format!(r#""cid":"{CID}""#), "no name"),
            (format!(r#""name":"{long}","cid":"{CID}""#), "too long"),
            (r#""name":"add""#.to_owned(), "neither"),
            (r#""name":"add","cid":"nonsense""#.to_owned(), "not a CID"),
            (r#""name":"add","sha256":"abc""#.to_owned(), "64 hex"),
            (format!(r#""name":"add","cid":"{CID}","sha256":"{}""#, SHA.replace('7', "8")), "different"),
        ] {
            let read = one(&fields);
            assert!(read.genes.is_empty() && read.troubles[0].contains(why), "{fields}: {read:?}");
        }
    }

    #[test]
    fn text_that_is_no_manifest_is_refused_without_repeating_it() {
        for text in ["", "secret", "[]", "{}", r#"{"genes":{}}"#, r#"{"genes":"secret"}"#, r#"{"genes":[]"#] {
            let refusal = parse(text.as_bytes()).unwrap_err();
            assert!(!refusal.contains("secret"), "{refusal}");
        }
        let many = format!(r#"{{"genes":[{}{{}}]}}"#, "{},".repeat(MAX_GENES));
        assert!(parse(many.as_bytes()).is_err());
        let deep = format!(r#"{{"x":{}"#, "[".repeat(1_000_000));
        assert!(parse(deep.as_bytes()).is_err());
    }
}
