//! Who one is at an S3 service: a file in the form of AWS's own credentials, which only its owner may read, or what the
//! environment and the machine say.

use std::fs::File;
use std::io::{self, Read as _};
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

use object_store::aws::{AmazonS3Builder, AmazonS3ConfigKey};

use super::ObjectError;

/// Rights that nobody but the owner may have.
const NOT_THE_OWNER: u32 = 0o077;
/// A longer file is no file of credentials.
const FILE_BYTES_MAX: u64 = 64 * 1024;

/// What the environment may say: who one is, and in which region; nothing of where.
const ENVIRONMENT: [(&str, AmazonS3ConfigKey); 11] = [
    ("AWS_ACCESS_KEY_ID", AmazonS3ConfigKey::AccessKeyId),
    ("AWS_SECRET_ACCESS_KEY", AmazonS3ConfigKey::SecretAccessKey),
    ("AWS_SESSION_TOKEN", AmazonS3ConfigKey::Token),
    ("AWS_REGION", AmazonS3ConfigKey::Region),
    ("AWS_WEB_IDENTITY_TOKEN_FILE", AmazonS3ConfigKey::WebIdentityTokenFile),
    ("AWS_ROLE_ARN", AmazonS3ConfigKey::RoleArn),
    ("AWS_ROLE_SESSION_NAME", AmazonS3ConfigKey::RoleSessionName),
    ("AWS_ENDPOINT_URL_STS", AmazonS3ConfigKey::StsEndpoint),
    ("AWS_CONTAINER_CREDENTIALS_RELATIVE_URI", AmazonS3ConfigKey::ContainerCredentialsRelativeUri),
    ("AWS_CONTAINER_CREDENTIALS_FULL_URI", AmazonS3ConfigKey::ContainerCredentialsFullUri),
    ("AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE", AmazonS3ConfigKey::ContainerAuthorizationTokenFile),
];

/// What a file says.
#[derive(PartialEq, Eq)]
struct Credentials {
    id: String,
    secret: String,
    token: Option<String>,
}

/// The beginning of a bucket's description: who one is there.
pub(super) fn given(file: Option<&Path>) -> Result<AmazonS3Builder, ObjectError> {
    let builder = AmazonS3Builder::new();
    let Some(path) = file else {
        let said = ENVIRONMENT
            .into_iter()
            .filter_map(|(name, key)| Some((key, std::env::var(name).ok().filter(|value| !value.is_empty())?)));
        return Ok(said.fold(builder, |builder, (key, value)| builder.with_config(key, value)));
    };
    let Credentials { id, secret, token } = read(path)?;
    let builder = builder.with_access_key_id(id).with_secret_access_key(secret);
    Ok(match token {
        Some(token) => builder.with_token(token),
        None => builder,
    })
}

fn read(path: &Path) -> Result<Credentials, ObjectError> {
    let unusable = |source| ObjectError::File { path: path.to_owned(), source };
    let file = File::open(path).map_err(unusable)?;
    let mode = file.metadata().map_err(unusable)?.permissions().mode() & 0o7777;
    if mode & NOT_THE_OWNER != 0 {
        return Err(ObjectError::Exposed { path: path.to_owned(), mode });
    }
    let mut text = String::new();
    file.take(FILE_BYTES_MAX).read_to_string(&mut text).map_err(unusable)?;
    parse(&text).map_err(|why| unusable(io::Error::other(why)))
}

/// Lines `name = value`; headings, comments and names that mean nothing here are passed over. Words of refusal hold nothing
/// of the text.
fn parse(text: &str) -> Result<Credentials, &'static str> {
    let (mut id, mut secret, mut token) = (None, None, None);
    for line in text.lines().map(str::trim).filter(|line| !line.starts_with(['#', ';', '['])) {
        let Some((name, value)) = line.split_once('=') else { continue };
        let place = match name.trim() {
            "aws_access_key_id" => &mut id,
            "aws_secret_access_key" => &mut secret,
            "aws_session_token" => &mut token,
            _ => continue,
        };
        if place.replace(value.trim().to_owned()).is_some() {
            return Err("it has a key twice: one profile alone may stand in it");
        }
    }
    match (id.filter(|id| !id.is_empty()), secret.filter(|secret| !secret.is_empty())) {
        (Some(id), Some(secret)) => Ok(Credentials { id, secret, token }),
        _ => Err("it must have the lines `aws_access_key_id = ...` and `aws_secret_access_key = ...`"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_form_is_that_of_awss_own_file() {
        let read =
            parse("# mine\n[default]\naws_access_key_id = AK\naws_secret_access_key=s=cret/+ \nregion = x\n").ok();
        let read = read.unwrap();
        assert_eq!((read.id.as_str(), read.secret.as_str(), read.token), ("AK", "s=cret/+", None));
        assert_eq!(
            parse("aws_access_key_id=A\naws_secret_access_key=S\naws_session_token=T")
                .ok()
                .unwrap()
                .token,
            Some("T".to_owned())
        );
        for wrong in ["", "aws_access_key_id = A", "aws_access_key_id = A\naws_secret_access_key = \n", "A\nS"] {
            assert!(parse(wrong).is_err(), "{wrong}");
        }
        let twice = "[a]\naws_access_key_id=A\naws_secret_access_key=S\n[b]\naws_access_key_id=B\n";
        assert!(parse(twice).err().unwrap().contains("twice"));
    }
}
