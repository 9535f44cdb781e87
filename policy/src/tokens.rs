//! Who calls: the tokens file, one `tenant token` a line, and the look-up of a presented token.
//!
//! Only digests of tokens are kept, and a look-up compares with all of them, so that its time tells nothing about which
//! was close. A tenant may have several tokens, so that one can be replaced without a gap.

use std::collections::BTreeSet;
use std::fmt;
use std::sync::Arc;

use sha2::{Digest, Sha256};
use subtle::{ConditionallySelectable, ConstantTimeEq};

/// Bytes of a tenant's name.
const TENANT_MAX_BYTES: usize = 64;
/// Bytes of a token.
const TOKEN_MAX_BYTES: usize = 512;

/// The name of a tenant: 1 to 64 of letters, digits, `.`, `_` and `-`. Cheap to clone.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Tenant(Arc<str>);

impl Tenant {
    /// `None` where it is not such a name.
    #[must_use]
    pub fn new(name: &str) -> Option<Self> {
        let fits = !name.is_empty()
            && name.len() <= TENANT_MAX_BYTES
            && name.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'_' | b'-'));
        fits.then(|| Self(name.into()))
    }

    /// Who calls where no tokens are configured.
    #[must_use]
    pub fn default_tenant() -> Self {
        Self("default".into())
    }

    /// The name.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Tenant {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0)
    }
}

impl fmt::Debug for Tenant {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&self.0, f)
    }
}

impl AsRef<str> for Tenant {
    fn as_ref(&self) -> &str {
        &self.0
    }
}

/// The tokens in force.
#[derive(Clone)]
pub struct Tokens(Vec<([u8; 32], Tenant)>);

/// A line of the tokens file that is not understood. No message repeats a token.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TokensError {
    /// Not two words.
    #[error(
        "tokens file, line {0}: write a tenant and a token with a space between them, or # and a comment"
    )]
    Form(usize),
    /// Not a tenant's name.
    #[error("tokens file, line {0}: a tenant's name has 1 to 64 of letters, digits, \".\", \"_\" and \"-\"")]
    Tenant(usize),
    /// Not a token.
    #[error("tokens file, line {0}: a token has 1 to {TOKEN_MAX_BYTES} visible ASCII characters")]
    Token(usize),
    /// The token stands on an earlier line too.
    #[error("tokens file, line {0}: the token stands on an earlier line too; give each tenant its own")]
    Duplicate(usize),
    /// A file that admits nobody.
    #[error("tokens file: it holds no token; write at least one line with a tenant and a token")]
    Empty,
}

fn digest(token: &str) -> [u8; 32] {
    Sha256::digest(token).into()
}

impl Tokens {
    /// Reads the text of a tokens file. `#` at the start of a line begins a comment.
    ///
    /// # Errors
    /// Each line that is not understood, or a file without a token.
    pub fn parse(text: &str) -> Result<Self, Vec<TokensError>> {
        let (mut tokens, mut errors, mut seen) = (Vec::new(), Vec::new(), BTreeSet::new());
        for (number, line) in text.strip_prefix('\u{feff}').unwrap_or(text).lines().enumerate() {
            let line = line.trim();
            if line.is_empty() || line.starts_with('#') {
                continue;
            }
            match parse_line(number + 1, line) {
                Ok((digest, _)) if !seen.insert(digest) => errors.push(TokensError::Duplicate(number + 1)),
                Ok(entry) => tokens.push(entry),
                Err(error) => errors.push(error),
            }
        }
        if tokens.is_empty() && errors.is_empty() {
            errors.push(TokensError::Empty);
        }
        if errors.is_empty() { Ok(Self(tokens)) } else { Err(errors) }
    }

    /// Whose token this is.
    #[must_use]
    pub fn tenant(&self, presented: &str) -> Option<&Tenant> {
        let presented = digest(presented);
        let mut found = u64::MAX;
        for (index, (known, _)) in (0u64..).zip(&self.0) {
            found.conditional_assign(&index, known.ct_eq(&presented));
        }
        self.0.get(usize::try_from(found).ok()?).map(|(_, tenant)| tenant)
    }

    /// The tenants, each once.
    #[must_use]
    pub fn tenants(&self) -> BTreeSet<&Tenant> {
        self.0.iter().map(|(_, tenant)| tenant).collect()
    }
}

fn parse_line(number: usize, line: &str) -> Result<([u8; 32], Tenant), TokensError> {
    let mut words = line.split_ascii_whitespace();
    let (Some(tenant), Some(token), None) = (words.next(), words.next(), words.next()) else {
        return Err(TokensError::Form(number));
    };
    let tenant = Tenant::new(tenant).ok_or(TokensError::Tenant(number))?;
    if token.len() > TOKEN_MAX_BYTES || !token.bytes().all(|b| b.is_ascii_graphic()) {
        return Err(TokensError::Token(number));
    }
    Ok((digest(token), tenant))
}

impl fmt::Debug for Tokens {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.0.iter().map(|(_, tenant)| tenant)).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn each_token_has_its_tenant() {
        let tokens = Tokens::parse("# who\r\nalice  s3cret\n\n bob\tt0ken \nalice second\n").unwrap();
        assert_eq!(tokens.tenant("s3cret").unwrap().as_str(), "alice");
        assert_eq!(tokens.tenant("second").unwrap().as_str(), "alice");
        assert_eq!(tokens.tenant("t0ken").unwrap().as_str(), "bob");
        for unknown in ["", "s3cre", "s3cret ", "S3cret", "alice", "#"] {
            assert_eq!(tokens.tenant(unknown), None, "{unknown}");
        }
        assert_eq!(tokens.tenants().len(), 2);
        assert!(!format!("{tokens:?}").contains("s3cret"));
    }

    #[test]
    fn lines_that_are_not_understood_are_named() {
        let errors = Tokens::parse("alice\nb/ob x\nbob tokén\na t\nb t\nc d e\n").unwrap_err();
        assert_eq!(
            errors,
            [
                TokensError::Form(1),
                TokensError::Tenant(2),
                TokensError::Token(3),
                TokensError::Duplicate(5),
                TokensError::Form(6)
            ]
        );
        assert_eq!(Tokens::parse("# nobody\n").unwrap_err(), [TokensError::Empty]);
    }

    proptest! {
        #[test]
        fn any_text_is_judged_without_panic(text: String, presented: String) {
            if let Ok(tokens) = Tokens::parse(&text) {
                let _ = tokens.tenant(&presented);
            }
        }
    }
}
