//! ApiVersions: what this broker serves, told to every client that names itself properly.

use heddle_net::kafka::{
    api_versions,
    messages::{ApiVersionsRequest, ApiVersionsResponse},
};
use heddle_proto::error::ErrorCode;

/// The first version in which the client says which software it is.
const SOFTWARE_VERSION_MIN: i16 = 3;

/// Answers one request.
pub fn answer(request: &ApiVersionsRequest, version: i16) -> ApiVersionsResponse {
    let named = [&request.client_software_name, &request.client_software_version];
    if version >= SOFTWARE_VERSION_MIN && !named.iter().all(|word| is_proper(word)) {
        return ApiVersionsResponse::default().with_error_code(ErrorCode::InvalidRequest.code());
    }
    api_versions(version)
}

/// Letters, digits, dots and dashes, with a letter or digit at both ends (KIP-511).
fn is_proper(word: &str) -> bool {
    let is_inner = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'-');
    let ends = [word.bytes().next(), word.bytes().next_back()];
    word.bytes().all(is_inner) && ends.iter().all(|end| end.is_some_and(|byte| byte.is_ascii_alphanumeric()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_software_are_checked() {
        for good in ["a", "7", "librdkafka", "apache-kafka-java", "4.1.0", "v1.20.3"] {
            assert!(is_proper(good), "{good}");
        }
        for bad in ["", "-", "a-", ".a", "a b", "a_b", "\u{e9}"] {
            assert!(!is_proper(bad), "{bad:?}");
        }
    }
}
