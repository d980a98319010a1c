// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.28;

/// @title The identities of a city: validators, gateways, administrators, services and people
/// @notice The owner (the city's Safe) enrols an identity with its keys, replaces its keys, lifts bans and retires it.
/// The owner and each administrator can ban. Anyone reads an identity, with its public keys, in one call.
/// @dev An identity is named by a UUID. It is active from its enrolment until it is banned or retired; a ban can be
/// lifted, retirement is final. An account, a key and a virtual IP belong to one UUID for ever, even after rotation and
/// retirement, whatever the use of the key: identity key, log key or tunnel key. Identities are returned from the one
/// enrolled last to the first. Times are Unix seconds. Getters do not revert for unknown keys: they return an empty
/// record (UUID 0, kind `None`) or an empty list.
interface IIdentityRegistry {
    /// @notice What an identity is. The kind never changes.
    enum Kind {
        None,
        Validator,
        Gateway,
        Administrator,
        Fog,
        Cloud,
        Operator,
        Technician
    }

    /// @notice Kind of an identity key, which determines its format.
    /// P256: x and y of a point on the curve, 32 bytes each. Ed25519: 32 bytes. Rsa: DER SubjectPublicKeyInfo with a
    /// modulus of 2,048, 3,072 or 4,096 bits and the exponent 65,537.
    enum KeyKind {
        None,
        P256,
        Ed25519,
        Rsa
    }

    /// @notice An identity as passed to `enrol`.
    /// @param uuid UUID, which must not be 0.
    /// @param kind Kind of the identity.
    /// @param account Account that sends its transactions, or 0.
    /// @param keyKind Kind of its key.
    /// @param key Public key in the format of `keyKind`.
    /// @param logKey Ed25519 key that signs its log, or 0.
    /// @param tunnelKey X25519 key of its tunnel, or 0.
    /// @param virtualIp IPv4 address inside the tunnel, or 0.
    struct Enrolment {
        bytes16 uuid;
        Kind kind;
        address account;
        KeyKind keyKind;
        bytes key;
        bytes32 logKey;
        bytes32 tunnelKey;
        uint32 virtualIp;
    }

    /// @notice An identity as returned by the getters.
    /// @param uuid UUID; 0 if the identity does not exist.
    /// @param kind Kind of the identity.
    /// @param account Account of the newest generation of keys, or 0.
    /// @param keyKind Kind of the key.
    /// @param key Public key.
    /// @param logKey Ed25519 key that signs its log, or 0.
    /// @param tunnelKey X25519 key of its tunnel, or 0.
    /// @param virtualIp IPv4 address inside the tunnel, or 0.
    /// @param banned True while the identity is banned.
    /// @param bannedAt Time of the newest ban, lifted or not; 0 if there was none.
    /// @param retired True after the retirement.
    /// @param since Time of the enrolment.
    /// @param fromBlock Block from which the newest generation of keys is valid.
    /// @param previous UUID of the identity that was enrolled before; 0 for the first.
    struct Identity {
        bytes16 uuid;
        Kind kind;
        address account;
        KeyKind keyKind;
        bytes key;
        bytes32 logKey;
        bytes32 tunnelKey;
        uint32 virtualIp;
        bool banned;
        uint40 bannedAt;
        bool retired;
        uint40 since;
        uint64 fromBlock;
        bytes16 previous;
    }

    /// @notice Keys of an identity, and the blocks in which they were its newest.
    /// @param account Account, or 0.
    /// @param keyKind Kind of the key.
    /// @param key Public key.
    /// @param logKey Ed25519 key that signs its log, or 0.
    /// @param tunnelKey X25519 key of its tunnel, or 0.
    /// @param fromBlock First block.
    /// @param toBlock Block of the rotation that ended the generation; 0 for the newest one.
    struct Generation {
        address account;
        KeyKind keyKind;
        bytes key;
        bytes32 logKey;
        bytes32 tunnelKey;
        uint64 fromBlock;
        uint64 toBlock;
    }

    /// @notice An identity was enrolled.
    event IdentityEnrolled(bytes16 indexed uuid, Kind indexed kind, address indexed account);

    /// @notice The keys of an identity were replaced.
    event KeysRotated(bytes16 indexed uuid, address indexed account);

    /// @notice An identity was banned, by an administrator or (`by` = 0) by the owner.
    event IdentityBanned(bytes16 indexed uuid, bytes16 indexed by, bytes32 reason);

    /// @notice The ban of an identity was lifted.
    event IdentityUnbanned(bytes16 indexed uuid);

    /// @notice An identity was retired.
    event IdentityRetired(bytes16 indexed uuid);

    /// @notice The list of enrolments is empty.
    error NothingToEnrol();

    /// @notice The UUID is 0.
    error UuidMissing();

    /// @notice The kind of the identity is `None`.
    error KindMissing(bytes16 uuid);

    /// @notice An identity has this UUID.
    error IdentityKnown(bytes16 uuid);

    /// @notice No identity has this UUID.
    error IdentityUnknown(bytes16 uuid);

    /// @notice The identity is retired.
    error IdentityIsRetired(bytes16 uuid);

    /// @notice The identity is banned already.
    error IdentityBannedAlready(bytes16 uuid, uint40 bannedAt);

    /// @notice The identity is not banned.
    error IdentityNotBanned(bytes16 uuid);

    /// @notice The key does not have the format of its kind.
    error KeyInvalid(bytes16 uuid, KeyKind keyKind, uint256 length);

    /// @notice The account belongs to another identity.
    error AccountTaken(address account, bytes16 uuid);

    /// @notice The key belongs to another identity. `keyHash` is the Keccak-256 hash of the key.
    error KeyTaken(bytes32 keyHash, bytes16 uuid);

    /// @notice The virtual IP belongs to an identity.
    error VirtualIpTaken(uint32 virtualIp);

    /// @notice The sender is neither the owner nor the account of an active administrator.
    error BanningNotAllowed(address account);

    /// @notice Only the owner bans an administrator.
    error AdministratorProtected(bytes16 uuid);

    /// @notice The administrator banned as many identities within the last hour as it may. It may ban again at `time`.
    error TooManyBans(bytes16 by, uint40 time);

    /// @notice Renouncing the ownership is refused, because the contract must have an owner.
    error RenouncingRefused();

    /// @notice Enrols an identity.
    /// @param enrolment The identity.
    /// @dev Emits `IdentityEnrolled`. Only the owner may call it. Reverts with `UuidMissing`, `KindMissing`,
    /// `IdentityKnown`, `KeyInvalid`, `AccountTaken`, `KeyTaken` or `VirtualIpTaken`.
    function enrol(Enrolment calldata enrolment) external;

    /// @notice Enrols several identities: all of them, or none.
    /// @param enrolments The identities.
    /// @dev Emits `IdentityEnrolled` for each. Only the owner may call it. Reverts with `NothingToEnrol` and with the
    /// errors of `enrol`.
    function enrolAll(Enrolment[] calldata enrolments) external;

    /// @notice Replaces the account and the keys of an identity by a new generation. Values that stay are passed again.
    /// The former account loses its rights at once; former keys stay readable with their block range.
    /// @param uuid UUID of the identity, which may be banned.
    /// @param account Account, or 0.
    /// @param keyKind Kind of the key.
    /// @param key Public key.
    /// @param logKey Ed25519 key that signs its log, or 0.
    /// @param tunnelKey X25519 key of its tunnel, or 0.
    /// @dev Emits `KeysRotated`. Only the owner may call it. Reverts with `IdentityUnknown`, `IdentityIsRetired`,
    /// `KeyInvalid`, `AccountTaken` or `KeyTaken`.
    function rotate(
        bytes16 uuid,
        address account,
        KeyKind keyKind,
        bytes calldata key,
        bytes32 logKey,
        bytes32 tunnelKey
    ) external;

    /// @notice Bans an identity until the owner lifts the ban.
    /// @param uuid UUID of the identity. An administrator cannot ban an administrator.
    /// @param reason Text of up to 32 bytes, zero-padded. It is emitted, not stored.
    /// @dev Emits `IdentityBanned`. Only the owner and active administrators may call it; an administrator can ban 10
    /// identities within an hour. Reverts with `IdentityUnknown`, `IdentityIsRetired`, `IdentityBannedAlready`,
    /// `BanningNotAllowed`, `AdministratorProtected` or `TooManyBans`.
    function ban(bytes16 uuid, bytes32 reason) external;

    /// @notice Lifts the ban of an identity.
    /// @param uuid UUID of the identity.
    /// @dev Emits `IdentityUnbanned`. Only the owner may call it. Reverts with `IdentityUnknown`, `IdentityIsRetired`
    /// or `IdentityNotBanned`.
    function unban(bytes16 uuid) external;

    /// @notice Retires an identity for ever, for example after the loss of its log.
    /// @param uuid UUID of the identity, which may be banned.
    /// @dev Emits `IdentityRetired`. Only the owner may call it. Reverts with `IdentityUnknown` or `IdentityIsRetired`.
    function retire(bytes16 uuid) external;

    /// @notice Returns one identity with its newest keys.
    /// @param uuid UUID of the identity.
    /// @return record The identity, or an empty record if it does not exist.
    function identity(bytes16 uuid) external view returns (Identity memory record);

    /// @notice Returns the identity to which an account belongs or belonged.
    /// @param account The account.
    /// @return record The identity, whose present account may be another, or an empty record.
    function identityOf(address account) external view returns (Identity memory record);

    /// @notice Returns the identity to which a key belongs or belonged.
    /// @param keyHash Keccak-256 hash of the key.
    /// @return record The identity, whose present key may be another, or an empty record.
    function identityByKey(bytes32 keyHash) external view returns (Identity memory record);

    /// @notice Returns all generations of an identity's keys, the newest one first.
    /// @param uuid UUID of the identity.
    /// @return list The generations.
    function generations(bytes16 uuid) external view returns (Generation[] memory list);

    /// @notice Returns a page of all identities, from the one enrolled last to the first.
    /// @param from UUID of the first identity of the page; 0 means the one enrolled last. The next page begins at
    /// `previous` of the last record.
    /// @param count Maximum number of records.
    /// @return records The page; shorter than `count` at the end of the list.
    function identities(bytes16 from, uint256 count) external view returns (Identity[] memory records);

    /// @notice Number of identities ever enrolled.
    /// @return count Number of identities.
    function identityCount() external view returns (uint64 count);

    /// @notice Returns who an account is, for other contracts.
    /// @param account The account.
    /// @return uuid UUID of the identity to which the account belongs or belonged; 0 if there is none.
    /// @return kind Kind of the identity.
    /// @return active True if the account is that of the newest generation, and the identity is neither banned nor
    /// retired.
    function standing(address account) external view returns (bytes16 uuid, Kind kind, bool active);

    /// @notice Returns the kind of an identity, for other contracts.
    /// @param uuid UUID of the identity.
    /// @return kind Kind of the identity.
    /// @return active True if the identity is neither banned nor retired.
    function kindOf(bytes16 uuid) external view returns (Kind kind, bool active);

    /// @notice Returns when an identity was banned.
    /// @param uuid UUID of the identity.
    /// @return time Time of the newest ban, lifted or not; 0 if there was none.
    function bannedAt(bytes16 uuid) external view returns (uint40 time);
}
