//! The index over all manifests: built when one of them changes, then only read.

use std::collections::HashMap;
use std::path::{Path, PathBuf};

use super::parse::{Gene, Manifest};
use crate::cache;
use crate::verify::Digest;
use crate::want::Want;

/// One manifest that goes into the index.
pub(super) struct Listed<'a> {
    pub(super) folder: &'a Path,
    /// Its name in answers: folder and file, no host path.
    pub(super) label: &'a str,
    pub(super) read: Result<&'a Manifest, &'a str>,
}

/// What the manifests say about an AST hash.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum AstClaim {
    /// All entries for it agree.
    One {
        want: Want,
        /// The sha256 that the module must have as well, where an entry says so.
        sha256: Option<Digest>,
        /// Which entry says so.
        said_by: String,
    },
    /// Two entries disagree; each as a clause that names the entry.
    Ambiguous { first: String, second: String },
}

/// Where a module's file may lie.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Place {
    folder: PathBuf,
    label: String,
    /// `<name>.wasm`, where that is a file name.
    file: Option<String>,
    /// Of its bytes, where the entry says so.
    sha256: Option<Digest>,
}

impl Place {
    pub(super) fn folder(&self) -> &Path {
        &self.folder
    }

    pub(super) fn label(&self) -> &str {
        &self.label
    }

    pub(super) fn sha256(&self) -> Option<Digest> {
        self.sha256
    }

    /// As the cache lays it, or by the gene's name.
    pub(super) fn files(&self, want: &Want) -> Vec<PathBuf> {
        let mut files = cache::layouts(want);
        files.extend(self.file.as_deref().map(PathBuf::from));
        files
    }

    /// What [`Place::files`] are, in words.
    pub(super) fn sought(&self) -> String {
        match &self.file {
            Some(file) => format!("{file}, or the file laid out by its CID, is"),
            None => "the file laid out by its CID (its name is no plain file name) is".to_owned(),
        }
    }
}

/// Entries that one module may have; more add nothing but time.
const MAX_PLACES: usize = 16;
/// Troubles told in an answer.
const MAX_TROUBLES: usize = 3;

/// The index.
#[derive(Debug, Default)]
pub(crate) struct Index {
    by_ast: HashMap<Digest, AstClaim>,
    by_want: HashMap<Want, Vec<Place>>,
    manifests: usize,
    troubles: Vec<String>,
}

impl Index {
    pub(super) fn build<'a>(manifests: impl Iterator<Item = Listed<'a>>) -> Self {
        let mut index = Self::default();
        for listed in manifests {
            index.manifests += 1;
            match listed.read {
                Ok(manifest) => {
                    for trouble in &manifest.troubles {
                        index.trouble(listed.label, trouble);
                    }
                    for gene in &manifest.genes {
                        index.add(&listed, gene);
                    }
                }
                Err(why) => index.trouble(listed.label, why),
            }
        }
        index
    }

    fn trouble(&mut self, label: &str, why: &str) {
        if self.troubles.len() < MAX_TROUBLES {
            self.troubles.push(format!("{label}: {why}"));
        }
    }

    fn add(&mut self, listed: &Listed<'_>, gene: &Gene) {
        let place = || Place {
            folder: listed.folder.to_owned(),
            label: listed.label.to_owned(),
            file: gene.file.clone(),
            sha256: gene.sha256,
        };
        let by_digest = gene.sha256.map(Want::Raw).filter(|want| *want != gene.want);
        for want in [Some(gene.want), by_digest].into_iter().flatten() {
            let places = self.by_want.entry(want).or_default();
            if places.len() < MAX_PLACES {
                places.push(place());
            }
        }
        let Some(ast) = gene.ast else { return };
        let said_by = format!("gene {:?} in {}", gene.name, listed.label);
        let claim = AstClaim::One { want: gene.want, sha256: gene.sha256, said_by };
        match self.by_ast.entry(ast) {
            std::collections::hash_map::Entry::Vacant(free) => {
                free.insert(claim);
            }
            std::collections::hash_map::Entry::Occupied(mut taken) => {
                let merged = merge(taken.get(), claim);
                taken.insert(merged);
            }
        }
    }

    pub(super) fn ast(&self, digest: &Digest) -> Option<&AstClaim> {
        self.by_ast.get(digest)
    }

    pub(super) fn places(&self, want: &Want) -> &[Place] {
        self.by_want.get(want).map_or(&[], Vec::as_slice)
    }

    /// The answer when no manifest lists something.
    pub(crate) fn not_listed(&self) -> String {
        let mut said = match self.manifests {
            0 => "there are none".to_owned(),
            1 => "the one there does not list it".to_owned(),
            n => format!("none of {n} lists it"),
        };
        if !self.troubles.is_empty() {
            said = format!("{said} ({})", self.troubles.join(", "));
        }
        said
    }
}

/// Two claims for one AST hash.
fn merge(first: &AstClaim, second: AstClaim) -> AstClaim {
    let (
        AstClaim::One { want, sha256, said_by },
        AstClaim::One { want: other_want, sha256: other_sha256, said_by: other_said_by },
    ) = (first, &second)
    else {
        return first.clone();
    };
    let bytes = |want: &Want, stated: &Option<Digest>| match want {
        Want::Raw(digest) => Some(*digest),
        Want::Dag(..) => *stated,
    };
    match (bytes(want, sha256), bytes(other_want, other_sha256)) {
        // The same bytes, whatever their CIDs. The CID of the bytes themselves says so without a walk.
        (Some(one), Some(other)) if one == other => {
            let other_is_plain = matches!((want, other_want), (Want::Dag(..), Want::Raw(_)));
            return if other_is_plain { second } else { first.clone() };
        }
        (Some(_), Some(_)) => {}
        _ if want == other_want => {
            return AstClaim::One { want: *want, sha256: sha256.or(*other_sha256), said_by: said_by.clone() };
        }
        _ => {}
    }
    let says = |who: &str, want: &Want, sha256: &Option<Digest>| match sha256 {
        Some(sha256) if matches!(want, Want::Dag(..)) => {
            format!("{who} says {want} with sha256 {}", hex::encode(sha256))
        }
        _ => format!("{who} says {want}"),
    };
    AstClaim::Ambiguous {
        first: says(said_by, want, sha256),
        second: says(other_said_by, other_want, other_sha256),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::want::Form;

    fn gene(name: &str, ast: u8, want: Want) -> Gene {
        Gene { name: name.into(), file: None, ast: Some([ast; 32]), want, sha256: None }
    }

    fn index(manifests: &[(&str, Manifest)]) -> Index {
        Index::build(manifests.iter().map(|(label, manifest)| Listed {
            folder: Path::new("/folder"),
            label,
            read: Ok(manifest),
        }))
    }

    #[test]
    fn manifests_that_agree_are_one_claim_and_others_are_named() {
        let with = |genes| Manifest { genes, troubles: vec![] };
        let same = Want::Raw([9; 32]);
        let one = with(vec![gene("add", 1, same), gene("mul", 2, same)]);
        let two = with(vec![gene("plus", 1, same), gene("times", 2, Want::Raw([8; 32]))]);
        let index = index(&[("a/manifest.json", one), ("b/manifest.json", two)]);
        assert!(matches!(index.ast(&[1; 32]), Some(AstClaim::One { want, .. }) if *want == same));
        let Some(AstClaim::Ambiguous { first, second }) = index.ast(&[2; 32]) else { panic!() };
        assert!(first.contains("\"mul\" in a/manifest.json"), "{first}");
        assert!(second.contains("\"times\" in b/manifest.json"), "{second}");
        assert_eq!(index.places(&same).len(), 3);
        assert_eq!(index.not_listed(), "none of 2 lists it");
    }

    #[test]
    fn entries_that_state_the_same_bytes_agree_whatever_their_cids() {
        let (plain, dag) = (Want::Raw([9; 32]), Want::Dag([1; 32], Form::V1));
        let stating = |want, sha256| Gene { sha256, ..gene("add", 1, want) };
        for (one, two) in [(plain, dag), (dag, plain)] {
            let manifest = |want| Manifest { genes: vec![stating(want, Some([9; 32]))], troubles: vec![] };
            let index = index(&[("a", manifest(one)), ("b", manifest(two))]);
            assert!(matches!(index.ast(&[1; 32]), Some(AstClaim::One { want, .. }) if *want == plain));
        }
        for other in [None, Some([8; 32])] {
            let genes = vec![stating(plain, None), stating(dag, other)];
            let index = index(&[("a", Manifest { genes, troubles: vec![] })]);
            let Some(AstClaim::Ambiguous { second, .. }) = index.ast(&[1; 32]) else { panic!() };
            assert_eq!(second.contains("with sha256 0808"), other.is_some(), "{second}");
        }
    }
}
