// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.28;

import {IIdentityRegistry} from "./IIdentityRegistry.sol";

/// @title Anchored logs of gateways, validators, technicians and clouds
/// @notice Every keeper of a log has an identity in `IIdentityRegistry` and one append-only log, a Merkle tree as in
/// RFC 6962 with SHA-256. The keeper anchors the size and the root of its log. The contract verifies the consistency
/// proof of RFC 9162, so an anchored log can only grow: no entry below an anchored size can change or disappear. An
/// entry is proven by an inclusion proof to any anchored root. The contract does not store entries.
/// @dev A log belongs to a UUID, not to an account or a key: after a rotation of keys, the same log continues. An
/// identity that is banned or retired cannot anchor; its log stays as it was anchored last. A gateway that loses its
/// log gets a new UUID, and the first entry of its new log names the last anchor of the lost log. Times are Unix
/// seconds and versions are packed semver, as in `IBlockOTA`. Getters do not revert for unknown keys: they return an
/// empty record (state `None`) or false.
interface IUpdateLedger {
    /// @notice State of a log. A growing log is suspended by evidence (`suspect`). An Administrator's decision makes a
    /// suspended log grow again or retires it, which is final.
    enum State {
        None,
        Growing,
        Suspended,
        Retired
    }

    /// @notice A log as returned by `root`.
    /// @param root Root of the Merkle tree of the first `size` entries.
    /// @param size Number of anchored entries.
    /// @param anchoredAt Time of the newest anchor.
    /// @param state State of the log.
    /// @param number Number of the device of the newest suspicion; 0 if the log was never suspected.
    /// @param release Release of the newest suspicion; 0 if the log was never suspected.
    struct Log {
        bytes32 root;
        uint64 size;
        uint40 anchoredAt;
        State state;
        uint64 number;
        bytes32 release;
    }

    /// @notice An entry of a log, with its inclusion proof to the log's anchored root.
    /// @param data Bytes of the entry.
    /// @param index Position of the entry in the log, from 0.
    /// @param path Inclusion proof (RFC 9162, 2.1.3).
    struct Entry {
        bytes data;
        uint64 index;
        bytes32[] path;
    }

    /// @notice The devices that now run a release.
    /// @param chain Id of the chain with the release.
    /// @param blockOta Address of the BlockOTA with the release.
    /// @param product Name of the product.
    /// @param version Packed semver of the release.
    /// @param words Words of device numbers: word `w` has the devices `256 * w` to `256 * w + 255`.
    /// @param bits For each word, the devices: bit `b`, from the low end, is the device `256 * w + b`.
    struct Installs {
        uint64 chain;
        address blockOta;
        bytes32 product;
        uint64 version;
        uint256[] words;
        uint256[] bits;
    }

    /// @notice The keeper anchored its log.
    event Anchored(bytes16 indexed uuid, uint64 size, bytes32 root);

    /// @notice A gateway recorded that devices of its blocks run a release; `installedBits` returns which.
    event Installed(bytes32 indexed release, bytes16 indexed uuid);

    /// @notice A log has two install entries for one device and one release.
    event LogSuspended(
        bytes16 indexed uuid,
        uint64 indexed number,
        bytes32 indexed release,
        uint64 firstIndex,
        uint64 secondIndex,
        address by
    );

    /// @notice An Administrator decided that a suspended log continues.
    event LogResumed(bytes16 indexed uuid, uint64 indexed number, bytes32 indexed release, bytes16 by);

    /// @notice An Administrator retired a suspended log.
    event LogRetired(bytes16 indexed uuid, uint64 indexed number, bytes32 indexed release, bytes16 by);

    /// @notice The address given for a registry has no code.
    error RegistryMissing(address account);

    /// @notice The caller is not an active identity of a kind that keeps a log.
    error NotALogKeeper(address caller, IIdentityRegistry.Kind kind, bool active);

    /// @notice The caller is not an active Administrator.
    error NotAnAdministrator(address caller, IIdentityRegistry.Kind kind, bool active);

    /// @notice The state of the log does not allow the call.
    error WrongLogState(bytes16 uuid, State state);

    /// @notice The log was anchored at this size or at a greater one.
    error SizeNotGreater(bytes16 uuid, uint64 size, uint64 anchoredSize);

    /// @notice The proof does not show that the log is a continuation of the anchored log.
    error LogNotConsistent(bytes16 uuid, uint64 anchoredSize, uint64 size);

    /// @notice The lists of words and bits have different lengths, or are empty.
    error WordsAndBitsDiffer(uint256 words, uint256 bits);

    /// @notice A word is not in the blocks of device numbers of the gateway.
    error DevicesNotOfSite(bytes16 uuid);

    /// @notice The device with this number already has the release. Other devices of the call can have it too.
    error AlreadyInstalled(bytes32 release, uint64 number);

    /// @notice The bytes are not an install entry of a registered device.
    error NotAnInstall(uint64 index);

    /// @notice The entries are not two different entries in ascending order.
    error EntriesNotInOrder(uint64 firstIndex, uint64 secondIndex);

    /// @notice The entries are not for one device and one release.
    error EntriesDiffer(uint64 firstIndex, uint64 secondIndex);

    /// @notice The path does not prove the entry at this index of the anchored log.
    error EntryNotInLog(bytes16 uuid, uint64 index, uint64 anchoredSize);

    /// @notice An Administrator has already decided on all entries below `size` for this device and release.
    error AlreadyDecided(bytes16 uuid, uint64 number, bytes32 release, uint64 size);

    /// @notice The suspicion is not the one that the call names. The values are those on record.
    error SuspicionDiffers(bytes16 uuid, uint64 number, bytes32 release);

    /// @notice Anchors the log of the caller.
    /// @param size Number of entries, greater than the anchored number.
    /// @param newRoot Root of the Merkle tree of these entries.
    /// @param proof Consistency proof from the anchored tree (RFC 9162, 2.1.4); empty for the first anchor.
    /// @dev Emits `Anchored`. Only an active identity of kind Gateway, Validator, Technician or Cloud may call it.
    /// Reverts with `NotALogKeeper`, `WrongLogState`, `SizeNotGreater` or `LogNotConsistent`.
    function anchor(uint64 size, bytes32 newRoot, bytes32[] calldata proof) external;

    /// @notice Anchors the log of the caller, and records that devices of its own blocks run a release. Anchoring never
    /// depends on this function: `anchor` alone is always possible.
    /// @param size Number of entries, greater than the anchored number.
    /// @param newRoot Root of the Merkle tree of these entries.
    /// @param proof Consistency proof from the anchored tree; empty for the first anchor.
    /// @param installs The release and the devices, at least one word.
    /// @dev Emits `Anchored` and `Installed`. All or nothing: if one device already has the release, nothing is
    /// recorded. Reverts as `anchor` does, or with `WordsAndBitsDiffer`, `DevicesNotOfSite` or `AlreadyInstalled`.
    function anchorInstalls(
        uint64 size,
        bytes32 newRoot,
        bytes32[] calldata proof,
        Installs calldata installs
    ) external;

    /// @notice Suspends a log by evidence: two install entries of one device and one release. Anyone may call it.
    /// @param uuid Keeper of the log.
    /// @param first The entry with the smaller index.
    /// @param second The entry with the greater index.
    /// @dev Emits `LogSuspended`. A repair is an entry of kind reinstall and is not evidence, and neither is an entry of
    /// a board that is not registered (number 0). After a decision to resume, only an entry that was appended later is
    /// new evidence for the same device and release. Reverts with `WrongLogState`, `EntriesNotInOrder`, `NotAnInstall`,
    /// `EntriesDiffer`, `AlreadyDecided` or `EntryNotInLog`.
    function suspect(bytes16 uuid, Entry calldata first, Entry calldata second) external;

    /// @notice Decides on a suspended log. The call names the suspicion, so that no other suspicion is decided.
    /// @param uuid Keeper of the log.
    /// @param number Number of the device of the suspicion.
    /// @param release Release of the suspicion.
    /// @param resume True: the log grows again. False: the log is retired for ever.
    /// @dev Emits `LogResumed` or `LogRetired`. Only an active Administrator may call it. Reverts with
    /// `NotAnAdministrator`, `WrongLogState` or `SuspicionDiffers`.
    function decide(bytes16 uuid, uint64 number, bytes32 release, bool resume) external;

    /// @notice The registry of identities.
    /// @return account Address of IdentityRegistry. It never changes.
    function identities() external view returns (address account);

    /// @notice The registry of devices.
    /// @return account Address of DeviceRegistry. It never changes.
    function devices() external view returns (address account);

    /// @notice Returns the anchored log of an identity.
    /// @param uuid Keeper of the log.
    /// @return record The log, or an empty record if nothing was anchored.
    /// @dev The registry's record of the identity has its bans and its retirement.
    function root(bytes16 uuid) external view returns (Log memory record);

    /// @notice Returns the size of a log at the newest suspicion of a device and a release. If the log is not suspended,
    /// an Administrator has decided on all entries below this size.
    /// @param uuid Keeper of the log.
    /// @param number Number of the device.
    /// @param release Release of the suspicion.
    /// @return size The size, or 0 if the log was never suspected because of them.
    function suspectedSize(bytes16 uuid, uint64 number, bytes32 release) external view returns (uint64 size);

    /// @notice Returns whether a device was recorded to run a release.
    /// @param release Keccak-256 of the ABI-encoded chain id, contract, product and version.
    /// @param number Number of the device.
    /// @return recorded True if a gateway recorded it.
    function installed(bytes32 release, uint64 number) external view returns (bool recorded);

    /// @notice Returns a page of the devices that were recorded to run a release.
    /// @param release Keccak-256 of the ABI-encoded chain id, contract, product and version.
    /// @param from First word of device numbers.
    /// @param count Number of words.
    /// @return bits For each word, the devices: bit `b`, from the low end, of word `w` is the device `256 * w + b`.
    function installedBits(bytes32 release, uint256 from, uint256 count) external view returns (uint256[] memory bits);
}
