//! Verifies the JSON Web Token (JWT, RFC 7519) by which Open WebUI says for whom it asks. It is signed by HS256 with a
//! secret that Open WebUI shares with this server; a token that names any other algorithm is refused.

use std::time::{SystemTime, UNIX_EPOCH};

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use hmac::{Hmac, KeyInit, Mac};
use serde::Deserialize;
use sha2::Sha256;

use super::identity::Identity;

#[derive(Deserialize)]
struct Header {
    alg: String,
}

#[derive(Deserialize)]
struct Claims {
    iss: String,
    email: String,
    /// The time of expiry, in seconds since 1970.
    exp: f64,
}

/// The issuer that Open WebUI writes into its tokens.
const ISSUER: &str = "open-webui";

/// The identity in a token that Open WebUI signed with `secret` and that has not expired.
///
/// # Errors
///
/// A sentence that says what is wrong with the token.
pub fn verify(token: &str, secret: &[u8]) -> Result<Identity, &'static str> {
    const MALFORMED: &str = "the identity that Open WebUI gives is not a JWT";
    let (signed, signature) = token.rsplit_once('.').ok_or(MALFORMED)?;
    let (header, claims) = signed.split_once('.').ok_or(MALFORMED)?;
    let decode = |part: &str| URL_SAFE_NO_PAD.decode(part).map_err(|_| MALFORMED);
    let header: Header = serde_json::from_slice(&decode(header)?).map_err(|_| MALFORMED)?;
    if header.alg != "HS256" {
        return Err("the identity that Open WebUI gives is not signed by HS256");
    }
    let mut mac = Hmac::<Sha256>::new_from_slice(secret).map_err(|_| MALFORMED)?;
    mac.update(signed.as_bytes());
    mac.verify_slice(&decode(signature)?).map_err(
        |_| "the identity that Open WebUI gives is not signed with this server's secret",
    )?;
    let claims: Claims = serde_json::from_slice(&decode(claims)?).map_err(|_| MALFORMED)?;
    let now = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .map_or(0.0, |it| it.as_secs_f64());
    if claims.iss != ISSUER || claims.exp <= now {
        return Err(
            "the identity that Open WebUI gives has expired, or was issued by another program",
        );
    }
    Ok(Identity {
        email: claims.email,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn token(header: &str, claims: &str, secret: &[u8]) -> String {
        let signed = [header, claims]
            .map(|part| URL_SAFE_NO_PAD.encode(part))
            .join(".");
        let mut mac = Hmac::<Sha256>::new_from_slice(secret).unwrap();
        mac.update(signed.as_bytes());
        let signature = URL_SAFE_NO_PAD.encode(mac.finalize().into_bytes());
        format!("{signed}.{signature}")
    }

    #[test]
    fn only_a_token_signed_by_open_webui_is_accepted() {
        let header = r#"{"alg":"HS256","typ":"JWT"}"#;
        let claims = r#"{"sub":"1","email":"ann@example.org","name":"Bob","iss":"open-webui","exp":99999999999}"#;
        let good = token(header, claims, b"secret");
        let ann = Identity {
            email: "ann@example.org".into(),
        };
        assert_eq!(verify(&good, b"secret"), Ok(ann));
        let others = [
            token(header, claims, b"another"),
            token(r#"{"alg":"none"}"#, claims, b"secret"),
            token(r#"{"alg":"HS512"}"#, claims, b"secret"),
            token(header, &claims.replace("99999999999", "1"), b"secret"),
            token(header, &claims.replace("open-webui", "somebody"), b"secret"),
            token(header, "{}", b"secret"),
            good[..=good.rfind('.').unwrap()].to_owned(),
            good.replace('.', "-"),
            String::new(),
        ];
        for token in others {
            assert!(verify(&token, b"secret").is_err(), "{token}");
        }
    }

    /// The example of RFC 7515, appendix A.1. Its signature is right, so it is refused for its claims alone.
    #[test]
    fn the_rfcs_own_signature_is_accepted() {
        let token = "eyJ0eXAiOiJKV1QiLA0KICJhbGciOiJIUzI1NiJ9.eyJpc3MiOiJqb2UiLA0KICJleHAiOjEzMDA4MTkzODAsDQogImh0dHA6Ly9leGFtcGxlLmNvbS9pc19yb290Ijp0cnVlfQ.dBjftJeZ4CVP-mB92K27uhbUJU1p1r_wW1gFWFOEjXk";
        let key = "AyM1SysPpbyDfgZld3umj1qzKObwVMkoqQ-EstJQLr_T-1qS0gZH75aKtMN3Yj0iPS4hcgUuTwjAzZr1Z9CAow";
        let key = URL_SAFE_NO_PAD.decode(key).unwrap();
        assert_eq!(
            verify(token, &key),
            Err("the identity that Open WebUI gives is not a JWT")
        );
        assert!(
            verify(token, b"another")
                .unwrap_err()
                .contains("not signed")
        );
    }
}
