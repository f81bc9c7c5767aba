//! What each key group wraps: the data key, or a share of it.

use rand::{CryptoRng, RngCore};
use zeroize::Zeroizing;

use super::super::data_key::DataKey;
use super::super::error::Error;
use super::super::shamir::{self, Share};
use super::Metadata;

impl Metadata {
    /// How many groups must be opened to get at the data key. A file of several groups that does not
    /// say so needs two at least; whether they were enough shows when its values are decrypted.
    #[must_use]
    pub fn groups_needed(&self) -> usize {
        match self.groups.len() {
            0 | 1 => 1,
            _ => usize::try_from(self.shamir_threshold.max(2)).unwrap_or(usize::MAX),
        }
    }

    /// What each group's recipients are to get: the data key where there is one group, else its share.
    /// Where several groups come without a threshold, all of them become necessary, as in sops.
    ///
    /// # Errors
    /// No group at all, or a number of groups and a threshold that do not go together.
    pub fn parts(
        &mut self,
        key: &DataKey,
        rng: &mut (impl RngCore + CryptoRng),
    ) -> Result<Vec<Share>, Error> {
        match self.groups.len() {
            0 => Err(Error::NoKeys),
            1 => Ok(vec![Zeroizing::new(key.as_bytes().to_vec())]),
            groups => {
                let count = i64::try_from(groups).unwrap_or(i64::MAX);
                let threshold = if self.shamir_threshold == 0 { count } else { self.shamir_threshold };
                // A negative one is as wrong as none of the groups.
                let shares = shamir::split(key, groups, usize::try_from(threshold).unwrap_or(0), rng)?;
                self.shamir_threshold = threshold;
                Ok(shares)
            }
        }
    }

    /// The data key from what was unwrapped, a part for each group that could be opened.
    ///
    /// # Errors
    /// Fewer parts than needed, or parts that do not fit together.
    pub fn data_key(&self, parts: &[Share]) -> Result<DataKey, Error> {
        if parts.len() < self.groups_needed() {
            return Err(Error::Shamir("fewer key groups could be opened than are needed"));
        }
        match (self.groups.len(), parts) {
            (0 | 1, [key, ..]) => DataKey::from_bytes(key),
            _ => shamir::combine(parts),
        }
    }
}

#[cfg(test)]
mod tests {
    use rand::SeedableRng;
    use rand::rngs::StdRng;

    use super::super::super::time::Time;
    use super::super::KeyGroup;
    use super::*;

    fn metadata(groups: usize, shamir_threshold: i64) -> Metadata {
        let now = Time::from_unix(0).expect("1970");
        let groups = vec![KeyGroup::default(); groups];
        Metadata { shamir_threshold, ..Metadata::new(groups, None, now, "3.13.3") }
    }

    #[test]
    fn one_group_gets_the_key_itself_whatever_the_threshold() {
        let mut rng = StdRng::seed_from_u64(1);
        let key = DataKey::generate(&mut rng);
        let mut metadata = metadata(1, 2);
        let parts = metadata.parts(&key, &mut rng).expect("one part");
        assert_eq!(parts.len(), 1);
        assert_eq!(parts[0].as_slice(), key.as_bytes());
        assert_eq!(metadata.data_key(&parts).expect("the key").as_bytes(), key.as_bytes());
        assert_eq!(metadata.shamir_threshold, 2);
    }

    #[test]
    fn several_groups_get_shares_and_a_threshold() {
        let mut rng = StdRng::seed_from_u64(2);
        let key = DataKey::generate(&mut rng);
        let mut all = metadata(3, 0);
        let parts = all.parts(&key, &mut rng).expect("three parts");
        assert_eq!((parts.len(), all.shamir_threshold), (3, 3));
        assert_eq!(all.data_key(&parts).expect("the key").as_bytes(), key.as_bytes());
        assert!(matches!(all.data_key(&parts[..2]), Err(Error::Shamir(_))));
        let mut two = metadata(3, 2);
        let parts = two.parts(&key, &mut rng).expect("three parts");
        assert_eq!(two.data_key(&parts[1..]).expect("the key").as_bytes(), key.as_bytes());
        assert!(metadata(2, 3).parts(&key, &mut rng).is_err());
        assert_eq!(metadata(0, 0).parts(&key, &mut rng), Err(Error::NoKeys));
    }
}
