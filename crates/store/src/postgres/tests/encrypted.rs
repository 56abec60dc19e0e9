//! TLS, against a server with a certificate of an authority of the test's own.

use std::fs;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _, chown};
use std::path::Path;
use std::process::Command;

use tertulia_services::{Kind, Server};

use super::database::{connect, options};
use crate::Store as _;
use crate::postgres::types::RowExt as _;
use crate::postgres::{OpenError, Postgres};

fn openssl(folder: &Path, arguments: &str) {
    let done = Command::new("openssl").args(arguments.split(' ')).current_dir(folder).output().unwrap();
    assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
}

/// An authority `ca.pem`, and a certificate of it for 127.0.0.1 with its key.
fn certificates(folder: &Path) {
    let new = "req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 2";
    openssl(folder, &format!("{new} -subj /CN=authority -keyout ca.key -out ca.pem"));
    fs::write(folder.join("names"), "subjectAltName=IP:127.0.0.1\nbasicConstraints=CA:FALSE\n").unwrap();
    let new = "req -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes";
    openssl(folder, &format!("{new} -subj /CN=database -keyout server.key -out server.csr"));
    let sign = "x509 -req -in server.csr -CA ca.pem -CAkey ca.key -CAcreateserial -days 2 -extfile names";
    openssl(folder, &format!("{sign} -out server.crt"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_proves_who_it_is_where_the_address_asks_for_it() {
    let mut server = Server::temporary(Kind::Postgres).unwrap();
    let folder = tempfile::tempdir().unwrap();
    certificates(folder.path());
    let admin = connect(&server.url()).await;
    let data = admin.row("SELECT current_setting('data_directory')", &[]).await.unwrap().unwrap();
    let data: String = data.value(0).unwrap();
    let owner = fs::metadata(&data).unwrap();
    for file in ["server.key", "server.crt"] {
        let file = (folder.path().join(file), Path::new(&data).join(file));
        fs::copy(&file.0, &file.1).unwrap();
        fs::set_permissions(&file.1, fs::Permissions::from_mode(0o600)).unwrap();
        chown(&file.1, Some(owner.uid()), Some(owner.gid())).unwrap();
    }
    // It has no certificate yet.
    let asked = format!(
        "{}?sslmode=verify-full&sslrootcert={}",
        server.url(),
        folder.path().join("ca.pem").display()
    );
    let refused = Postgres::open(&asked, &options()).await.err().unwrap();
    assert!(matches!(refused, OpenError::Unreachable(_)), "{refused}");
    admin.run("ALTER SYSTEM SET ssl = on").await.unwrap();
    drop(admin);
    server.restart().unwrap();

    let store = Postgres::open(&asked, &options()).await.unwrap();
    store.horizon().await.unwrap();
    let session = connect(&asked).await;
    let encrypted = "SELECT ssl FROM pg_stat_ssl WHERE pid = pg_backend_pid()";
    assert!(session.row(encrypted, &[]).await.unwrap().unwrap().value::<bool>(0).unwrap());
    // Of an authority that nobody knows it is not believed; and a file without certificates is none.
    let unknown = format!("{}?sslmode=require", server.url());
    let refused = Postgres::open(&unknown, &options()).await.err().unwrap();
    assert!(matches!(refused, OpenError::Unreachable(_)), "{refused}");
    let nothing = format!("{unknown}&sslrootcert={}/nothing.pem", folder.path().display());
    let refused = Postgres::open(&nothing, &options()).await.err().unwrap();
    assert!(matches!(refused, OpenError::Certificates { .. }), "{refused}");
}
