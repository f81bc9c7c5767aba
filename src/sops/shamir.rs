//! Shamir's secret sharing, as sops splits a data key among several key groups.
//!
//! Each byte of the secret is the value at 0 of a random polynomial over GF(2^8) with the modulus of AES
//! (x^8 + x^4 + x^3 + x + 1); a share holds the values at one other point, followed by that point.

use rand::{CryptoRng, RngCore};
use zeroize::Zeroizing;

use super::data_key::{DATA_KEY_LEN, DataKey};
use super::error::Error;

/// Bytes of a share: one for each byte of the data key, and its point.
pub const SHARE_LEN: usize = DATA_KEY_LEN + 1;

/// A share of a data key. Wiped on drop.
pub type Share = Zeroizing<Vec<u8>>;

/// Splits a data key into as many shares as there are groups, so that `threshold` of them give it back.
/// The share of a group is at its own position.
///
/// # Errors
/// Fewer than two groups, more than 255, or a threshold that is not between two and their number.
pub fn split(
    key: &DataKey,
    groups: usize,
    threshold: usize,
    rng: &mut (impl RngCore + CryptoRng),
) -> Result<Vec<Share>, Error> {
    let points = u8::try_from(groups)
        .map_err(|_| Error::Shamir("could not split the data key: more than 255 key groups"))?;
    if threshold < 2 {
        return Err(Error::Shamir("could not split the data key: the threshold must be at least 2"));
    }
    if groups < threshold {
        return Err(Error::Shamir(
            "could not split the data key: the threshold exceeds the number of key groups",
        ));
    }
    let mut shares: Vec<Share> = (0..points).map(|_| Zeroizing::new(Vec::with_capacity(SHARE_LEN))).collect();
    let mut coefficients = Zeroizing::new(vec![0; threshold - 1]);
    for secret in key.as_bytes() {
        rng.fill_bytes(&mut coefficients);
        for (share, point) in shares.iter_mut().zip(1..=points) {
            // Horner's rule, from the highest coefficient down to the secret.
            let high = coefficients.iter().rev().fold(0, |sum, &factor| multiply(sum, point) ^ factor);
            share.push(multiply(high, point) ^ secret);
        }
    }
    for (share, point) in shares.iter_mut().zip(1..=points) {
        share.push(point);
    }
    Ok(shares)
}

/// Puts a data key together from shares: all that were found, which may be more than the threshold. Too
/// few of them give a wrong key, as the scheme has it; the caller knows the threshold.
///
/// # Errors
/// Fewer than two shares, shares of another length, one point twice, or the point 0.
pub fn combine(shares: &[Share]) -> Result<DataKey, Error> {
    if shares.len() < 2 {
        return Err(Error::Shamir("could not reconstruct the data key: fewer than two shares"));
    }
    if shares.iter().any(|share| share.len() != SHARE_LEN) {
        return Err(Error::Shamir("could not reconstruct the data key: a share does not have 33 bytes"));
    }
    let points: Vec<u8> = shares.iter().map(|share| share[DATA_KEY_LEN]).collect();
    let repeated = (1..points.len()).any(|index| points[..index].contains(&points[index]));
    if repeated || points.contains(&0) {
        return Err(Error::Shamir("could not reconstruct the data key: two shares of the same group"));
    }
    // Lagrange's basis polynomials at 0. Subtraction is addition here, so x / (x - p) is x / (x ^ p).
    let weights: Vec<u8> = points
        .iter()
        .map(|&point| {
            let others = points.iter().filter(|&&other| other != point);
            others.fold(1, |weight, &other| multiply(weight, multiply(other, inverse(other ^ point))))
        })
        .collect();
    let mut key = Zeroizing::new([0; DATA_KEY_LEN]);
    for (share, &weight) in shares.iter().zip(&weights) {
        for (byte, &value) in key.iter_mut().zip(share.iter()) {
            *byte ^= multiply(value, weight);
        }
    }
    DataKey::from_bytes(&*key)
}

/// The product in GF(2^8), without a branch or a look-up that depends on the factors.
fn multiply(one: u8, other: u8) -> u8 {
    (0..8).rev().fold(0_u8, |product, bit| {
        let reduced = (product << 1) ^ ((product >> 7).wrapping_neg() & 0x1B);
        reduced ^ ((other >> bit & 1).wrapping_neg() & one)
    })
}

/// The multiplicative inverse: the 254th power (0 for 0).
fn inverse(number: u8) -> u8 {
    // 254 is 2 + 4 + … + 128.
    let (product, _) = (0..7).fold((1, number), |(product, power), _| {
        let square = multiply(power, power);
        (multiply(product, square), square)
    });
    product
}

#[cfg(test)]
mod tests {
    use rand::SeedableRng;
    use rand::rngs::StdRng;

    use super::super::metadata::Metadata;
    use super::super::testing::{tree, unwrap};
    use super::super::{document, document::MacCheck};
    use super::*;

    const GROUPS: &str = include_str!("../../tests/sops/groups.enc.json");
    const TYPES: &str = include_str!("../../tests/sops/types.json");

    fn key() -> DataKey {
        DataKey::generate(&mut StdRng::seed_from_u64(7))
    }

    #[test]
    fn the_field_is_that_of_aes() {
        // FIPS 197, section 4.2: {57} times {83} is {c1}, and {53} is the inverse of {ca}.
        assert_eq!(multiply(0x57, 0x83), 0xC1);
        assert_eq!(inverse(0x53), 0xCA);
        assert!((1..=255).all(|number| multiply(number, inverse(number)) == 1));
    }

    #[test]
    fn any_shares_of_at_least_the_threshold_give_the_key_back() {
        let mut rng = StdRng::seed_from_u64(8);
        for (groups, threshold) in [(2, 2), (3, 2), (5, 3), (255, 4)] {
            let shares = split(&key(), groups, threshold, &mut rng).expect("in range");
            assert_eq!(shares.len(), groups);
            assert!(shares.iter().zip(1..=u8::MAX).all(|(share, point)| share[32] == point));
            for chosen in [&shares[..threshold], &shares[groups - threshold..], &shares[..]] {
                assert_eq!(combine(chosen).expect("good shares").as_bytes(), key().as_bytes());
            }
            if threshold > 2 {
                assert_ne!(combine(&shares[1..threshold]).expect("shares").as_bytes(), key().as_bytes());
            }
        }
    }

    #[test]
    fn a_file_of_two_groups_that_sops_wrote_is_opened() {
        let (data, metadata) = document::split(tree(GROUPS), document::is_metadata).expect("metadata");
        assert_eq!((metadata.groups.len(), metadata.shamir_threshold), (2, 2));
        let share = |index: usize| Zeroizing::new(unwrap(&metadata.groups[index].age[0].enc).expect("ours"));
        let key = combine(&[share(0), share(1)]).expect("two shares");
        let decrypted = document::decrypt(data, &metadata, &key, MacCheck::Verify, document::Nonces::Keep)
            .expect("it decrypts");
        assert_eq!(decrypted.tree, tree(&TYPES.replace("1.0", "1")));
        assert_eq!(Metadata::from_branch(&metadata.to_branch()), Ok(metadata));
    }

    #[test]
    fn what_cannot_be_split_or_combined_is_refused() {
        let mut rng = StdRng::seed_from_u64(9);
        for (groups, threshold) in [(2, 1), (2, 0), (2, 3), (1, 2), (256, 2)] {
            assert!(split(&key(), groups, threshold, &mut rng).is_err(), "{groups} {threshold}");
        }
        let shares = split(&key(), 2, 2, &mut rng).expect("in range");
        let one = || shares[0].clone();
        let zero = || Zeroizing::new([one()[..32].to_vec(), vec![0]].concat());
        let short = || Zeroizing::new(one()[..32].to_vec());
        for bad in [vec![], vec![one()], vec![one(), one()], vec![one(), zero()], vec![one(), short()]] {
            assert!(combine(&bad).is_err());
        }
    }
}
