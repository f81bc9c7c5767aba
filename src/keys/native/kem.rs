//! The key encapsulation of post-quantum age keys: ML-KEM-768 and X25519, each of which would have to be broken.
//!
//! MLKEM768-X25519 of <https://datatracker.ietf.org/doc/draft-ietf-hpke-pq/>, also known as X-Wing. The base
//! mode of HPKE is all that age uses.

use hpke::generic_array::GenericArray;
use hpke::generic_array::typenum::{Sum, U32, Unsigned};
use hpke::kem::SharedSecret;
use hpke::{Deserializable, HpkeError, Serializable};
use ml_kem::kem::{Decapsulate, Encapsulate};
use ml_kem::{B32, Ciphertext, Encoded, EncodedSizeUser, KemCore, MlKem768};
use rand::{CryptoRng, RngCore};
use sha3::digest::{ExtendableOutput, Update, XofReader};
use sha3::{Digest, Sha3_256, Shake256};
use x25519_dalek::{EphemeralSecret, PublicKey as Point, StaticSecret};
use zeroize::{Zeroize, Zeroizing};

use super::KEY_BYTES;

/// Separates the combined secret from all other hashes; X-Wing's sign.
const LABEL: &[u8] = br"\.//^\";

type LatticePrivate = <MlKem768 as KemCore>::DecapsulationKey;
type LatticePublic = <MlKem768 as KemCore>::EncapsulationKey;
/// Bytes of an ML-KEM-768 public key, before the X25519 one.
type PublicSize = <LatticePublic as EncodedSizeUser>::EncodedSize;
/// Bytes of an ML-KEM-768 ciphertext, before the X25519 share.
type CiphertextSize = <MlKem768 as KemCore>::CiphertextSize;

/// MLKEM768-X25519.
pub(super) struct Kem;

/// The seed of a key pair; both private halves are expanded from it when they are needed.
#[derive(Clone)]
pub(super) struct Private(Zeroizing<[u8; KEY_BYTES]>);

/// Both public halves, known to be well-formed.
#[derive(Clone, Debug)]
pub(super) struct Public {
    lattice: LatticePublic,
    point: Point,
}

/// What travels to the owner of the private key.
#[derive(Clone)]
pub(super) struct Encapsulated {
    lattice: Ciphertext<MlKem768>,
    point: Point,
}

impl Private {
    /// A new one, from the system's randomness.
    pub(super) fn generate() -> Self {
        let mut material = Zeroizing::new([0; KEY_BYTES]);
        rand::rngs::OsRng.fill_bytes(&mut *material);
        <Kem as hpke::Kem>::derive_keypair(&*material).0
    }

    pub(super) fn seed(&self) -> &[u8; KEY_BYTES] {
        &self.0
    }

    fn expand(&self) -> (LatticePrivate, StaticSecret) {
        let mut stream = Shake256::default().chain(self.0.as_slice()).finalize_xof();
        let (mut first, mut second) = (B32::default(), B32::default());
        let mut scalar = Zeroizing::new([0; KEY_BYTES]);
        stream.read(&mut first);
        stream.read(&mut second);
        stream.read(&mut *scalar);
        let (lattice, _) = MlKem768::generate_deterministic(&first, &second);
        first.as_mut_slice().zeroize();
        second.as_mut_slice().zeroize();
        (lattice, StaticSecret::from(*scalar))
    }
}

/// Compared by what is public.
impl PartialEq for Private {
    fn eq(&self, other: &Self) -> bool {
        <Kem as hpke::Kem>::sk_to_pk(self) == <Kem as hpke::Kem>::sk_to_pk(other)
    }
}

impl Eq for Private {}

impl Serializable for Private {
    type OutputSize = U32;

    fn write_exact(&self, buffer: &mut [u8]) {
        buffer.copy_from_slice(&*self.0);
    }
}

impl Deserializable for Private {
    fn from_bytes(bytes: &[u8]) -> Result<Self, HpkeError> {
        let seed = bytes.try_into().map_err(|_| wrong_length::<Self>(bytes))?;
        Ok(Self(Zeroizing::new(seed)))
    }
}

impl PartialEq for Public {
    fn eq(&self, other: &Self) -> bool {
        self.to_bytes() == other.to_bytes()
    }
}

impl Eq for Public {}

impl Serializable for Public {
    type OutputSize = Sum<PublicSize, U32>;

    fn write_exact(&self, buffer: &mut [u8]) {
        let (lattice, point) = buffer.split_at_mut(PublicSize::USIZE);
        lattice.copy_from_slice(&self.lattice.as_bytes());
        point.copy_from_slice(self.point.as_bytes());
    }
}

impl Deserializable for Public {
    fn from_bytes(bytes: &[u8]) -> Result<Self, HpkeError> {
        let (lattice, point) = halves::<Self, { PublicSize::USIZE }>(bytes)?;
        let encoded = Encoded::<LatticePublic>::from(lattice);
        let public = Self { lattice: LatticePublic::from_bytes(&encoded), point: point.into() };
        // FIPS 203, section 7.2: numbers of the key are below the modulus, or they come back changed. And
        // every scalar is a multiple of the cofactor, so any of them finds a point of low order.
        let shared = StaticSecret::from([1; KEY_BYTES]).diffie_hellman(&public.point);
        let sound = public.lattice.as_bytes() == encoded && shared.was_contributory();
        sound.then_some(public).ok_or(HpkeError::ValidationError)
    }
}

impl Serializable for Encapsulated {
    type OutputSize = Sum<CiphertextSize, U32>;

    fn write_exact(&self, buffer: &mut [u8]) {
        let (lattice, point) = buffer.split_at_mut(CiphertextSize::USIZE);
        lattice.copy_from_slice(&self.lattice);
        point.copy_from_slice(self.point.as_bytes());
    }
}

impl Deserializable for Encapsulated {
    fn from_bytes(bytes: &[u8]) -> Result<Self, HpkeError> {
        let (lattice, point) = halves::<Self, { CiphertextSize::USIZE }>(bytes)?;
        Ok(Self { lattice: lattice.into(), point: point.into() })
    }
}

impl hpke::Kem for Kem {
    type PublicKey = Public;
    type PrivateKey = Private;
    type EncappedKey = Encapsulated;
    type NSecret = U32;
    const KEM_ID: u16 = 0x647a;

    fn sk_to_pk(private: &Private) -> Public {
        let (lattice, scalar) = private.expand();
        Public { lattice: lattice.encapsulation_key().clone(), point: (&scalar).into() }
    }

    fn derive_keypair(material: &[u8]) -> (Private, Public) {
        let mut seed = Zeroizing::new([0; KEY_BYTES]);
        let name = b"DeriveKeyPair";
        Shake256::default()
            .chain(material)
            .chain(b"HPKE-v1KEM")
            .chain(Self::KEM_ID.to_be_bytes())
            .chain([0, 13])
            .chain(name)
            .chain([0, 32])
            .finalize_xof_into(&mut *seed);
        let private = Private(seed);
        let public = Self::sk_to_pk(&private);
        (private, public)
    }

    fn encap<R: CryptoRng + RngCore>(
        to: &Public,
        from: Option<(&Private, &Public)>,
        random: &mut R,
    ) -> Result<(SharedSecret<Self>, Encapsulated), HpkeError> {
        let (None, Ok((lattice, first))) = (from, to.lattice.encapsulate(random)) else {
            return Err(HpkeError::EncapError);
        };
        let ephemeral = EphemeralSecret::random_from_rng(random);
        let point = Point::from(&ephemeral);
        let second = ephemeral.diffie_hellman(&to.point);
        if !second.was_contributory() {
            return Err(HpkeError::EncapError);
        }
        let secret = combine(&Zeroizing::new(first.into()), second.as_bytes(), &point, &to.point);
        Ok((secret, Encapsulated { lattice, point }))
    }

    fn decap(
        private: &Private,
        from: Option<&Public>,
        encapsulated: &Encapsulated,
    ) -> Result<SharedSecret<Self>, HpkeError> {
        let (lattice, scalar) = private.expand();
        // What was made for another key gives another secret here, not an error.
        let (None, Ok(first)) = (from, lattice.decapsulate(&encapsulated.lattice)) else {
            return Err(HpkeError::DecapError);
        };
        let second = scalar.diffie_hellman(&encapsulated.point);
        if !second.was_contributory() {
            return Err(HpkeError::DecapError);
        }
        let own = Point::from(&scalar);
        Ok(combine(&Zeroizing::new(first.into()), second.as_bytes(), &encapsulated.point, &own))
    }
}

fn combine(
    lattice: &[u8; KEY_BYTES],
    shared: &[u8; KEY_BYTES],
    share: &Point,
    public: &Point,
) -> SharedSecret<Kem> {
    let mut secret = SharedSecret(GenericArray::default());
    let hash = Sha3_256::new().chain(lattice).chain(shared).chain(share.as_bytes()).chain(public.as_bytes());
    hash.chain(LABEL).finalize_into(&mut secret.0);
    secret
}

/// The ML-KEM part and the X25519 part.
fn halves<T: Serializable, const FIRST: usize>(
    bytes: &[u8],
) -> Result<([u8; FIRST], [u8; KEY_BYTES]), HpkeError> {
    let halves = bytes.split_at_checked(FIRST);
    let halves = halves.and_then(|(first, rest)| Some((first.try_into().ok()?, rest.try_into().ok()?)));
    halves.ok_or_else(|| wrong_length::<T>(bytes))
}

fn wrong_length<T: Serializable>(bytes: &[u8]) -> HpkeError {
    HpkeError::IncorrectInputLength(T::size(), bytes.len())
}

#[cfg(test)]
mod tests {
    use hpke::Kem as _;

    use super::*;

    fn bytes(hex: &str) -> Vec<u8> {
        let digits: Vec<_> = hex.chars().map(|digit| digit.to_digit(16).expect("hexadecimal")).collect();
        digits.chunks(2).map(|pair| u8::try_from(16 * pair[0] + pair[1]).expect("a byte")).collect()
    }

    /// From the test vectors of the draft.
    #[test]
    fn key_pairs_are_derived_as_the_draft_says() {
        let (private, public) =
            Kem::derive_keypair(&bytes("0379761fa4f6869592b0d1f9a71eb92b122dc030a7a8858132109f6b1a4bbde4"));
        let seed = bytes("b3f98b03126a431ccecc62ae0f68e102c2d8e1cc7b21ba85d821d8e31761e0f8");
        assert_eq!(private.to_bytes().as_slice(), seed);
        assert!(
            public
                .to_bytes()
                .starts_with(&bytes("3c282de306815eb40990929aeee0839bb37a71a052a9e5242cf15f4c4aa366e5"))
        );
        assert!(private == Private::from_bytes(&seed).expect("32 bytes") && private != Private::generate());
        assert!(public == Public::from_bytes(&public.to_bytes()).expect("sound"));
    }

    #[test]
    fn both_sides_find_the_same_secret() {
        let private = Private::generate();
        let public = Kem::sk_to_pk(&private);
        let (secret, sent) = Kem::encap(&public, None, &mut rand::rngs::OsRng).expect("sound");
        let sent = Encapsulated::from_bytes(&sent.to_bytes()).expect("its own");
        assert_eq!(Kem::decap(&private, None, &sent).expect("sound").0, secret.0);
        assert_ne!(Kem::decap(&Private::generate(), None, &sent).expect("sound").0, secret.0);
    }

    #[test]
    fn a_sender_with_a_key_of_its_own_is_no_part_of_it() {
        let (private, other) = (Private::generate(), Private::generate());
        let (public, sender) = (Kem::sk_to_pk(&private), Kem::sk_to_pk(&other));
        assert!(Kem::encap(&public, Some((&other, &sender)), &mut rand::rngs::OsRng).is_err());
        let (_, sent) = Kem::encap(&public, None, &mut rand::rngs::OsRng).expect("sound");
        assert!(Kem::decap(&private, Some(&sender), &sent).is_err());
    }
}
