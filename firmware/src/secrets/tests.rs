//! Tests of [`super`]: honest files, hostile text, and files that others can read.

use std::fs::{self, Permissions};

use super::*;

const CONFIG: &str = r#"
site = "north"
board = 1
data_dir = "data"
[listen]
mesh = "127.0.0.1:7410"
mqtt = "127.0.0.1:7411"
http = "127.0.0.1:7412"
[mqtt]
users_file = "users"
[identity]
certificate = "c.pem"
key = "k.pem"
ca = "ca.pem"
[bridge]
broker = "127.0.0.1:1883"
topics = ["a"]
username = "roadside"
password_file = "password"
"#;

/// A directory of its own, gone when the test is.
struct Scratch(PathBuf);

impl Scratch {
    fn new(name: &str) -> Self {
        let path = std::env::temp_dir().join(format!("roadstead-secrets-{name}-{}", std::process::id()));
        fs::create_dir_all(&path).unwrap();
        Self(path)
    }

    fn file(&self, name: &str, text: &[u8], mode: u32) -> PathBuf {
        let path = self.0.join(name);
        fs::write(&path, text).unwrap();
        fs::set_permissions(&path, Permissions::from_mode(mode)).unwrap();
        path
    }

    fn secrets(&self) -> Result<Secrets, SecretError> {
        Secrets::read(&BoardConfig::parse(&self.0.join("board.toml"), CONFIG.as_bytes()).unwrap())
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

fn user(name: &str, password: &str) -> DoorUser {
    DoorUser { name: name.into(), password: password.into() }
}

fn fault(text: &str) -> SecretFault {
    parse_users(text.as_bytes()).expect_err("it is wrong")
}

#[test]
fn lines_of_name_and_password() {
    let text = "\u{feff}# radar\r\nradar:a:b #c\r\n\n   \n#x:y\nschleife süd:ä ö";
    let users = parse_users(text.as_bytes()).unwrap();
    assert_eq!(users, [user("radar", "a:b #c"), user("schleife süd", "ä ö")]);
    assert_eq!(parse_password(b"geheim\r\nits comment\n").unwrap(), "geheim");
    assert_eq!(parse_password(b"geheim").unwrap(), "geheim");
}

#[test]
fn what_is_wrong_and_where() {
    assert_eq!(fault(""), SecretFault::Nobody);
    assert_eq!(fault("# sensor:x\n\n"), SecretFault::Nobody);
    assert_eq!(fault("a:b\nsecret\n"), SecretFault::NoColon { line: 2 });
    assert_eq!(fault("\n:b"), SecretFault::Name { line: 2, why: "is empty" });
    assert_eq!(fault("a:"), SecretFault::Password { line: 1, why: "is empty" });
    assert_eq!(fault(" a:b"), SecretFault::Name { line: 1, why: "begins or ends with white space" });
    assert_eq!(fault("a:b "), SecretFault::Password { line: 1, why: "begins or ends with white space" });
    assert_eq!(fault("a\0:b"), SecretFault::Name { line: 1, why: "has a control character" });
    assert_eq!(fault("a:b\rc:d"), SecretFault::Password { line: 1, why: "has a control character" });
    assert_eq!(fault("a:1\nb:2\n#\na:1"), SecretFault::Twice { line: 4, first: 1 });
    assert_eq!(parse_users(b"a:b\n\xff:c"), Err(SecretFault::NotText { line: 2 }));
    assert_eq!(parse_password(b""), Err(SecretFault::Password { line: 1, why: "is empty" }));
    assert_eq!(parse_password(b"\nx"), Err(SecretFault::Password { line: 1, why: "is empty" }));
}

#[test]
fn limits_are_met_and_not_passed() {
    let line = |name: usize, password: usize| format!("{}:{}", "n".repeat(name), "p".repeat(password));
    assert!(parse_users(line(MQTT_USER_BYTES_MAX, MQTT_PASSWORD_BYTES_MAX).as_bytes()).is_ok());
    assert!(matches!(fault(&line(MQTT_USER_BYTES_MAX + 1, 1)), SecretFault::Name { line: 1, .. }));
    assert!(matches!(fault(&line(1, MQTT_PASSWORD_BYTES_MAX + 1)), SecretFault::Password { line: 1, .. }));
    let users = |count: usize| (0..count).map(|n| format!("u{n}:p\n")).collect::<String>();
    assert_eq!(parse_users(users(DOOR_USERS_MAX).as_bytes()).unwrap().len(), DOOR_USERS_MAX);
    assert_eq!(fault(&users(DOOR_USERS_MAX + 1)), SecretFault::TooMany { line: DOOR_USERS_MAX + 1 });
}

/// Every honest text with any bytes spoiled is read or refused; what is read keeps the rules, and no refusal shows
/// what may be a password.
#[test]
fn hostile_text() {
    let honest = "# c\r\nuser-1:hunter2:#\n\nuser-2:hunter2\n".as_bytes();
    let hostile = [0, b'\n', b'\r', b':', b'#', b' ', 0x1b, 0x7f, 0x80, 0xc3, 0xef, 0xff];
    for at in 0..honest.len() {
        let _ = parse_users(&honest[..at]);
        let _ = parse_password(&honest[at..]);
        for (byte, end) in hostile
            .iter()
            .flat_map(|byte| (at..honest.len().min(at + 6)).map(move |end| (*byte, end)))
        {
            let mut spoiled = honest.to_vec();
            spoiled[at..=end].fill(byte);
            match parse_users(&spoiled) {
                Ok(users) => {
                    assert!((1..=3).contains(&users.len()));
                    assert!(users.iter().all(|user| !user.name.is_empty() && !user.password.is_empty()));
                    assert!(users.iter().all(|user| !user.name.contains(char::is_control)));
                }
                Err(fault) => assert!(!format!("{fault} {fault:?}").contains("hunter")),
            }
        }
    }
}

#[test]
fn what_a_configuration_names_is_read() {
    let scratch = Scratch::new("read");
    scratch.file("users", b"sensor:one", 0o600);
    scratch.file("password", b"two\n", 0o400);
    let secrets = scratch.secrets().unwrap();
    assert_eq!(secrets.users, [user("sensor", "one")]);
    assert_eq!(secrets.bridge, Some(("roadside".into(), "two".into())));
    let shown = format!("{secrets:?}");
    assert!(shown.contains("sensor") && !shown.contains("one") && !shown.contains("two"), "{shown}");
}

#[test]
fn a_file_that_others_can_get_at_is_refused() {
    let scratch = Scratch::new("exposed");
    scratch.file("password", b"two", 0o600);
    for mode in [0o604, 0o640, 0o660, 0o602, 0o644] {
        let path = scratch.file("users", b"sensor:one", mode);
        let shown = scratch.secrets().unwrap_err().to_string();
        let told = format!("(mode {mode:04o}); run: chmod 600 {}", path.display());
        assert!(shown.ends_with(&told), "{shown}");
    }
    scratch.file("users", b"sensor:one", 0o600);
    scratch.file("password", b"two", 0o640);
    assert!(matches!(scratch.secrets(), Err(SecretError::Exposed { mode: 0o640, .. })));
    scratch.file("password", b"two", 0o600);
    assert!(scratch.secrets().is_ok());
}

#[test]
fn what_is_no_file_of_passwords() {
    let scratch = Scratch::new("irregular");
    scratch.file("password", b"two", 0o600);
    assert!(matches!(scratch.secrets(), Err(SecretError::Read { .. })));
    let users = scratch.0.join("users");
    fs::create_dir(&users).unwrap();
    assert!(matches!(scratch.secrets(), Err(SecretError::Irregular { .. })));
    fs::remove_dir(&users).unwrap();
    // A pipe without a writer must not hold up the start.
    let mode = rustix::fs::Mode::RUSR | rustix::fs::Mode::WUSR;
    rustix::fs::mknodat(rustix::fs::CWD, &users, rustix::fs::FileType::Fifo, mode, 0).unwrap();
    assert!(matches!(scratch.secrets(), Err(SecretError::Irregular { .. })));
    fs::remove_file(&users).unwrap();
    let comment = |bytes: usize| [b"sensor:one\n#", &vec![b'x'; bytes - 12][..]].concat();
    scratch.file("users", &comment(SECRET_FILE_BYTES_MAX), 0o600);
    assert!(scratch.secrets().is_ok());
    scratch.file("users", &comment(SECRET_FILE_BYTES_MAX + 1), 0o600);
    assert!(matches!(scratch.secrets(), Err(SecretError::Long { .. })));
}

#[test]
fn a_token_is_long_enough_to_be_no_guess() {
    let long = "0123456789abcdef0123456789abcdef";
    assert_eq!(parse_token(format!("{long}\n").as_bytes()), Ok(long.to_owned()));
    assert!(matches!(parse_token(&long.as_bytes()[1..]), Err(SecretFault::Password { line: 1, .. })));
    assert!(StatusToken::of(long).is(long.as_bytes()) && !StatusToken::of(long).is(&long.as_bytes()[1..]));
    assert_eq!(format!("{:?}", StatusToken::of(long)), "StatusToken");
    let scratch = Scratch::new("token");
    let path = scratch.file("status-token", long.as_bytes(), 0o640);
    assert!(matches!(status_token(&path), Err(SecretError::Exposed { mode: 0o640, .. })));
}
