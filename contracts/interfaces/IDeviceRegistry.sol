// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.28;

import {IDeviceRegistrants} from "./IDeviceRegistrants.sol";
import {IDeviceSites} from "./IDeviceSites.sol";

/// @title The registry of a city's devices, compatible with IOTRegistry
/// @notice Registrants register devices, each under a number at a site. The records of registrants, specs, devices and
/// aliases are the protobuf records of Trusted-IoT-Alliance/IOTRegistry, byte for byte, under its keys (see `record`).
/// @dev The owner is the city's Safe. IOTRegistry's own signatures do not cover the nonce of a thing. A registration
/// therefore needs the registrant's EIP-712 signature over all its fields, the chain and this contract; only the owner
/// imports things with a signature of IOTRegistry, and they stay marked as imported. `generations` returns all versions
/// of a device. Getters do not revert for unknown keys.
interface IDeviceRegistry is IDeviceRegistrants, IDeviceSites {
    /// @notice Who banned a device.
    enum Ban {
        None,
        Registrant,
        City
    }

    /// @notice The data that a registrant signs to register a device.
    /// @param registrant Name of the registrant.
    /// @param nonce IOTRegistry's id of the thing, 1 to 64 bytes.
    /// @param aliases Names of the device, 1 to 16 of at most 128 visible ASCII characters. The first is
    /// `<registrant>/<spec>/<serial>`; the others begin with `<registrant>/`.
    /// @param data Text, at most 2,048 bytes. The contract does not interpret it.
    /// @param spec Name of the spec, which is the device's model.
    /// @param site UUID of the gateway that serves the device.
    /// @param keyX Coordinate of the device's P-256 key; 0 if it has none.
    /// @param keyY Coordinate of the device's P-256 key; 0 if it has none.
    struct Registration {
        bytes32 registrant;
        bytes nonce;
        string[] aliases;
        string data;
        string spec;
        bytes16 site;
        bytes32 keyX;
        bytes32 keyY;
    }

    /// @notice A thing of IOTRegistry to import.
    /// @param thing The thing. Only aliases with a "/" must begin with `<registrant>/`.
    /// @param signature IOTRegistry's signature, 1 to 255 bytes. The contract does not verify it.
    struct ImportedThing {
        Registration thing;
        bytes signature;
    }

    /// @notice A device as returned by the getters. For a device of a batch, `since` is the time of the registration,
    /// `fromBlock` is 0, and `key`, `nonce`, `signature` and `record` are empty.
    /// @param number Number of the device; 0 if it does not exist.
    /// @param registrant Name of the present registrant.
    /// @param specHash keccak256 of the name of its spec.
    /// @param site UUID of the gateway that serves the device.
    /// @param imported True if the Safe imported the device from IOTRegistry.
    /// @param ban Who banned the device.
    /// @param bannedAt Time of the ban; 0 if the device is not banned.
    /// @param since Time of the present version.
    /// @param fromBlock Block of the present version.
    /// @param key The P-256 key as 64 bytes x ‖ y, or empty.
    /// @param nonce IOTRegistry's id of the thing.
    /// @param signature IOTRegistry's original signature of an imported thing, else empty.
    /// @param record IOTRegistry's record of the thing: protobuf Thing{Aliases: 1, RegistrantPubkey: 2, Data: 3,
    /// SpecName: 4}.
    struct Device {
        uint64 number;
        bytes32 registrant;
        bytes32 specHash;
        bytes16 site;
        bool imported;
        Ban ban;
        uint40 bannedAt;
        uint40 since;
        uint64 fromBlock;
        bytes key;
        bytes nonce;
        bytes signature;
        bytes record;
    }

    /// @notice A version of a device: a registration, a transfer or a change of its key.
    /// @param registrant Name of the registrant in this version.
    /// @param key The P-256 key as 64 bytes x ‖ y, or empty.
    /// @param fromBlock First block of the version.
    /// @param toBlock First block of the next version; 0 for the present version.
    struct Generation {
        bytes32 registrant;
        bytes key;
        uint64 fromBlock;
        uint64 toBlock;
    }

    /// @notice Devices that were registered together by the root of a tree.
    /// @param first Number of the first device; 0 if the batch does not exist.
    /// @param count Quantity of devices. They have consecutive numbers.
    /// @param root RFC 6962 root of the devices' entries, in the order of their numbers.
    /// @param specHash Hash of the spec of all devices.
    /// @param registrant Name of the registrant.
    /// @param since Time of the registration.
    struct Batch {
        uint64 first;
        uint64 count;
        bytes32 root;
        bytes32 specHash;
        bytes32 registrant;
        uint40 since;
    }

    /// @notice A device was registered, or imported from IOTRegistry.
    event DeviceRegistered(
        uint64 indexed number,
        bytes16 indexed site,
        bytes32 indexed specHash,
        bytes32 registrant,
        string firstAlias,
        bool imported
    );

    /// @notice A registrant registered devices by their root.
    event BatchRegistered(
        uint64 indexed first,
        bytes16 indexed site,
        bytes32 indexed specHash,
        bytes32 registrant,
        uint64 count,
        bytes32 root
    );

    /// @notice A device got a P-256 key, or another one.
    event DeviceKeySet(uint64 indexed number, bytes32 keyX, bytes32 keyY);

    /// @notice A device was transferred to another registrant.
    event DeviceTransferred(uint64 indexed number, bytes32 indexed from, bytes32 indexed to);

    /// @notice A device was banned. `administrator` is the UUID of the Administrator that banned it; 0 if the owner or
    /// the registrant did.
    event DeviceBanned(uint64 indexed number, Ban party, bytes16 administrator, bytes32 reason);

    /// @notice The ban of a device ended.
    event DeviceUnbanned(uint64 indexed number, Ban party, bytes16 administrator);

    /// @notice Ownership cannot be renounced.
    error RenouncingRefused();

    /// @notice The address given for IdentityRegistry has no code.
    error RegistryMissing(address account);

    /// @notice The list of things to import is empty.
    error NothingToImport();

    /// @notice The signature is not that of the registrant's account.
    error SignatureOfAnother(bytes32 registrant, address signer);

    /// @notice The nonce is empty or longer than `limit` bytes.
    error NonceInvalid(uint256 length, uint256 limit);

    /// @notice A thing has this nonce.
    error NonceTaken(bytes nonce, uint64 number);

    /// @notice The quantity of aliases is 0 or above `limit`.
    error AliasCountInvalid(uint256 count, uint256 limit);

    /// @notice The alias does not have the required form.
    error AliasInvalid(string aliasText);

    /// @notice A device has this alias.
    error AliasTaken(string aliasText, uint64 number);

    /// @notice The key is not a point of the curve P-256.
    error DeviceKeyInvalid(bytes32 keyX, bytes32 keyY);

    /// @notice The key belongs or belonged to a device.
    error DeviceKeyTaken(uint64 number);

    /// @notice The root is 0, or the quantity is 0 or above `limit`.
    error BatchInvalid(bytes32 root, uint64 count, uint64 limit);

    /// @notice No device has this number, or the device is one of a batch, whose record is not on the chain.
    error DeviceUnknown(uint64 number);

    /// @notice The caller may not change the device.
    error DeviceOfAnother(uint64 number, address caller);

    /// @notice The registrant has the device already.
    error TransferToSelf(uint64 number, bytes32 registrant);

    /// @notice The device is banned by the same party, or by the city.
    error DeviceAlreadyBanned(uint64 number, Ban party);

    /// @notice The device is not banned, or it was banned by the city and the caller is its registrant.
    error DeviceNotBanned(uint64 number, Ban party);

    /// @notice Registers a device. Anyone may call it with the registrant's signature.
    /// @param registration The device.
    /// @param signature EIP-712 signature of the registrant's account over `Registration`, 65 bytes r ‖ s ‖ v with low s.
    /// The domain is {name: "BlockOTA DeviceRegistry", version: "1", chainId, verifyingContract}.
    /// @return number Number of the device.
    /// @dev Emits `DeviceRegistered`, and `DeviceKeySet` if it has a key. Reverts with `RegistrantUnknown`,
    /// `RegistrantIsSuspended`, `SignatureOfAnother`, `NonceInvalid`, `NonceTaken`, `AliasCountInvalid`, `AliasInvalid`,
    /// `AliasTaken`, `TextTooLong`, `SpecUnknown`, `SpecOfAnotherRegistrant`, `DeviceKeyInvalid`, `DeviceKeyTaken`,
    /// `SiteUnknown` or `NumbersMissing`.
    function register(Registration calldata registration, bytes calldata signature) external returns (uint64 number);

    /// @notice Imports things from IOTRegistry with their original signatures: all of them, or none.
    /// @param things The things, at least one.
    /// @dev Emits the events of `register`. Only the owner may call it. Reverts with `NothingToImport`,
    /// `SignatureLengthInvalid`, or as `register` does for the first thing that cannot be registered.
    function importThings(ImportedThing[] calldata things) external;

    /// @notice Registers devices of one model by the root of a tree. The caller is their registrant.
    /// @param specHash Hash of the spec.
    /// @param site UUID of the gateway that serves the devices.
    /// @param count Quantity of devices, 1 to 1,048,576.
    /// @param root RFC 6962 root of the devices' entries.
    /// @return first Number of the first device; the others follow.
    /// @dev Emits `BatchRegistered`. Only the account of a registrant may call it. Reverts with `NotARegistrant`,
    /// `RegistrantIsSuspended`, `BatchInvalid`, `SpecUnknown`, `SpecOfAnotherRegistrant`, `SiteUnknown` or
    /// `NumbersMissing`.
    function registerBatch(bytes32 specHash, bytes16 site, uint64 count, bytes32 root) external returns (uint64 first);

    /// @notice Gives a device a P-256 key, or replaces its key.
    /// @param number Number of the device.
    /// @param keyX Coordinate of the key.
    /// @param keyY Coordinate of the key.
    /// @dev Emits `DeviceKeySet`. Only the device's registrant may call it. Reverts with `NotARegistrant`,
    /// `RegistrantIsSuspended`, `DeviceUnknown`, `DeviceOfAnother`, `DeviceKeyInvalid` or `DeviceKeyTaken`.
    function setKey(uint64 number, bytes32 keyX, bytes32 keyY) external;

    /// @notice Transfers a device to another registrant. Its aliases and its spec stay.
    /// @param number Number of the device.
    /// @param to Name of the other registrant.
    /// @dev Emits `DeviceTransferred`. Only the device's registrant and the owner may call it. Reverts with
    /// `DeviceUnknown`, `NotARegistrant`, `RegistrantIsSuspended`, `DeviceOfAnother`, `RegistrantUnknown` or
    /// `TransferToSelf`.
    function transfer(uint64 number, bytes32 to) external;

    /// @notice Bans a device: gateways offer it nothing.
    /// @param number Number of the device, which may be one of a batch.
    /// @param reason Reason, at most 32 bytes.
    /// @dev Emits `DeviceBanned`. The device's registrant, the owner and any active Administrator may call it. Reverts
    /// with `DeviceUnknown`, `NotARegistrant`, `RegistrantIsSuspended`, `DeviceOfAnother` or `DeviceAlreadyBanned`.
    function ban(uint64 number, bytes32 reason) external;

    /// @notice Ends the ban of a device. The registrant cannot end a ban of the city.
    /// @param number Number of the device.
    /// @dev Emits `DeviceUnbanned`. Callers and errors are those of `ban`, with `DeviceNotBanned` in place of
    /// `DeviceAlreadyBanned`.
    function unban(uint64 number) external;

    /// @notice The registry of identities.
    /// @return account Address of IdentityRegistry. It never changes.
    function identities() external view returns (address account);

    /// @notice Returns IOTRegistry's record under one of its keys.
    /// @param key `RegistrantPubkey:<hex>`, `Spec:<name>`, `Thing:<nonce hex>` or `Alias:<alias>`, in lower-case hex.
    /// @return value The protobuf bytes, or nothing.
    function record(string calldata key) external view returns (bytes memory value);

    /// @notice Returns a device.
    /// @param number Number of the device.
    /// @return found The device, or an empty record.
    function device(uint64 number) external view returns (Device memory found);

    /// @notice Returns the devices whose numbers are at least `from` and less than `from + count`.
    /// @param from First number of the page.
    /// @param count Quantity of numbers.
    /// @return found The devices, in the order of their numbers.
    function devices(uint64 from, uint64 count) external view returns (Device[] memory found);

    /// @notice Returns the number of the device with an alias.
    /// @param aliasText The alias.
    /// @return number The number; 0 if no device has the alias.
    function numberOf(string calldata aliasText) external view returns (uint64 number);

    /// @notice Returns the number of the device to which a key belongs, or belonged.
    /// @param keyX Coordinate of the key.
    /// @param keyY Coordinate of the key.
    /// @return number The number; 0 if the key belongs to no device.
    function numberOfKey(bytes32 keyX, bytes32 keyY) external view returns (uint64 number);

    /// @notice Returns all versions of a device, newest first.
    /// @param number Number of the device.
    /// @return versions The versions; none for a device of a batch.
    function generations(uint64 number) external view returns (Generation[] memory versions);

    /// @notice Returns the batch of a device.
    /// @param number Number of the device.
    /// @return found The batch, or an empty record.
    function batchOf(uint64 number) external view returns (Batch memory found);

    /// @notice Returns a page of the batches of a site in the order of their numbers.
    /// @param site UUID of the site.
    /// @param from Number of batches to skip.
    /// @param count Maximum number of records.
    /// @return found The page.
    function batches(bytes16 site, uint256 from, uint256 count) external view returns (Batch[] memory found);
}
