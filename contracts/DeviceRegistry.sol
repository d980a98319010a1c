// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.28;

import {Ownable} from "@openzeppelin/contracts/access/Ownable.sol";
import {ECDSA} from "@openzeppelin/contracts/utils/cryptography/ECDSA.sol";
import {P256} from "@openzeppelin/contracts/utils/cryptography/P256.sol";

import {Texts} from "./Texts.sol";
import {DeviceRecords} from "./devices/DeviceRecords.sol";
import {DeviceVersions} from "./devices/DeviceVersions.sol";
import {IOTRecords} from "./devices/IOTRecords.sol";
import {IDeviceRegistry} from "./interfaces/IDeviceRegistry.sol";
import {IIdentityRegistry} from "./interfaces/IIdentityRegistry.sol";

/// @title The registry of a city's devices, compatible with IOTRegistry
/// @notice See `IDeviceRegistry`, which is the specification.
contract DeviceRegistry is DeviceRecords {
    using DeviceVersions for DeviceVersions.Version;

    uint256 private constant NONCE_LIMIT = 64;
    uint256 private constant ALIAS_LIMIT = 128;
    uint256 private constant ALIAS_COUNT_LIMIT = 16;
    uint64 private constant BATCH_LIMIT = 1 << 20;

    bytes32 private constant DOMAIN_TYPE =
        keccak256("EIP712Domain(string name,string version,uint256 chainId,address verifyingContract)");
    bytes32 private constant REGISTRATION_TYPE =
        keccak256(
            "Registration(bytes32 registrant,bytes nonce,string[] aliases,string data,string spec,bytes16 site,"
            "bytes32 keyX,bytes32 keyY)"
        );

    /// @param initialOwner The city's Safe.
    /// @param identityRegistry Address of IdentityRegistry.
    constructor(address initialOwner, address identityRegistry) Ownable(initialOwner) {
        require(identityRegistry.code.length != 0, RegistryMissing(identityRegistry));
        _identities = identityRegistry;
    }

    /// @inheritdoc IDeviceRegistry
    function register(Registration calldata registration, bytes calldata signature) external returns (uint64 number) {
        uint256 index = _knownRegistrant(registration.registrant);
        RegistrantEntry storage entry = _registrants[index];
        require(!entry.suspended, RegistrantIsSuspended(entry.name));
        (address signer, , ) = ECDSA.tryRecoverCalldata(_digestOf(registration), signature);
        require(signer == entry.account, SignatureOfAnother(entry.name, signer));

        bytes memory prefix = abi.encodePacked(Texts.textOf(entry.name), "/");
        bytes memory model = abi.encodePacked(prefix, registration.spec, "/");
        string[] calldata aliases = registration.aliases;
        for (uint256 i = 0; i < aliases.length; ++i) {
            _requireNative(aliases[i], i == 0 ? model : prefix, i != 0);
        }
        return _register(registration, index, "");
    }

    /// @inheritdoc IDeviceRegistry
    function importThings(ImportedThing[] calldata things) external onlyOwner {
        require(things.length != 0, NothingToImport());
        for (uint256 i = 0; i < things.length; ++i) {
            _requireSignature(things[i].signature);
            Registration calldata thing = things[i].thing;
            uint256 index = _knownRegistrant(thing.registrant);
            bytes memory prefix = abi.encodePacked(Texts.textOf(thing.registrant), "/");
            for (uint256 j = 0; j < thing.aliases.length; ++j) {
                bytes memory text = bytes(thing.aliases[j]);
                bool formed = Texts.startsWith(text, prefix) || !Texts.hasSlash(text, 0);
                require(formed, AliasInvalid(thing.aliases[j]));
            }
            _register(thing, index, things[i].signature);
        }
    }

    /// @inheritdoc IDeviceRegistry
    function registerBatch(
        bytes32 specHash,
        bytes16 site_,
        uint64 count,
        bytes32 root
    ) external returns (uint64 first) {
        uint256 registrantIndex = _callingRegistrant();
        require(root != 0 && count != 0 && count <= BATCH_LIMIT, BatchInvalid(root, count, BATCH_LIMIT));
        uint256 specIndex = _ownSpec(specHash, registrantIndex);

        first = _take(site_, count);
        _batches[_indexOf(first / 256)].push(
            BatchEntry(root, first, count, uint40(block.timestamp), uint32(registrantIndex), uint32(specIndex))
        );

        emit BatchRegistered(first, site_, specHash, _registrants[registrantIndex].name, count, root);
    }

    /// @inheritdoc IDeviceRegistry
    function setKey(uint64 number, bytes32 keyX, bytes32 keyY) external {
        DeviceVersions.Version memory version = _known(number);
        require(version.registrant == _callingRegistrant(), DeviceOfAnother(number, msg.sender));

        version.key = _takeKey(number, keyX, keyY);
        _replace(number, version);
    }

    /// @inheritdoc IDeviceRegistry
    function transfer(uint64 number, bytes32 to) external {
        DeviceVersions.Version memory version = _known(number);
        if (msg.sender != owner()) {
            require(version.registrant == _callingRegistrant(), DeviceOfAnother(number, msg.sender));
        }
        uint256 index = _knownRegistrant(to);
        require(index != version.registrant, TransferToSelf(number, to));

        bytes32 from = _registrants[version.registrant].name;
        bytes memory key = IOTRecords.toHex(_publicKeyOf(index));
        for (uint256 i = 0; i < key.length; ++i) {
            version.record[version.keyAt + i] = key[i];
        }
        version.registrant = uint32(index);
        _replace(number, version);

        emit DeviceTransferred(number, from, to);
    }

    /// @inheritdoc IDeviceRegistry
    function ban(uint64 number, bytes32 reason) external {
        (Ban party, bytes16 administrator) = _authorityOver(number);
        DeviceEntry storage entry = _devices[number];
        require(entry.ban < party, DeviceAlreadyBanned(number, entry.ban));

        entry.ban = party;
        entry.bannedAt = uint40(block.timestamp);

        emit DeviceBanned(number, party, administrator, reason);
    }

    /// @inheritdoc IDeviceRegistry
    function unban(uint64 number) external {
        (Ban party, bytes16 administrator) = _authorityOver(number);
        DeviceEntry storage entry = _devices[number];
        require(entry.ban != Ban.None && entry.ban <= party, DeviceNotBanned(number, entry.ban));

        entry.ban = Ban.None;
        entry.bannedAt = 0;

        emit DeviceUnbanned(number, party, administrator);
    }

    /// @notice Always reverts: the contract must have an owner.
    /// @dev Reverts with `RenouncingRefused` for every caller.
    function renounceOwnership() public pure override {
        revert RenouncingRefused();
    }

    /// @dev Checks and writes what registrations and imports have in common.
    function _register(
        Registration calldata thing,
        uint256 registrantIndex,
        bytes memory signature
    ) private returns (uint64 number) {
        bytes32 specHash = keccak256(bytes(thing.spec));
        DeviceVersions.Version memory version;
        version.registrant = uint32(registrantIndex);
        version.spec = uint32(_ownSpec(specHash, registrantIndex));
        version.nonce = thing.nonce;
        version.signature = signature;
        _requireData(thing.data);

        number = _take(thing.site, 1);
        _takeNonce(number, thing.nonce);
        _takeAliases(number, thing.aliases);
        bool imported = signature.length != 0;
        emit DeviceRegistered(number, thing.site, specHash, thing.registrant, thing.aliases[0], imported);

        if (thing.keyX | thing.keyY != 0) version.key = _takeKey(number, thing.keyX, thing.keyY);
        uint256 keyAt;
        (version.record, keyAt) = IOTRecords.thing(
            thing.aliases,
            _publicKeyOf(registrantIndex),
            thing.data,
            thing.spec
        );
        version.keyAt = uint16(keyAt);
        _devices[number].version = version.write();
    }

    /// @dev Requires visible characters after a beginning, without "/" unless `slash` is true.
    function _requireNative(string calldata aliasText, bytes memory beginning, bool slash) private pure {
        bytes memory text = bytes(aliasText);
        uint256 offset = beginning.length;
        bool formed = Texts.startsWith(text, beginning) && text.length > offset && Texts.isVisible(text, offset);
        require(formed && (slash || !Texts.hasSlash(text, offset)), AliasInvalid(aliasText));
    }

    function _takeNonce(uint64 number, bytes calldata nonce) private {
        require(nonce.length != 0 && nonce.length <= NONCE_LIMIT, NonceInvalid(nonce.length, NONCE_LIMIT));
        bytes32 key = IOTRecords.thingKey(nonce);
        require(_index[key] == 0, NonceTaken(nonce, uint64(_index[key])));
        _index[key] = THING_RECORD | number;
    }

    function _takeAliases(uint64 number, string[] calldata aliases) private {
        uint256 count = aliases.length;
        require(count != 0 && count <= ALIAS_COUNT_LIMIT, AliasCountInvalid(count, ALIAS_COUNT_LIMIT));
        for (uint256 i = 0; i < count; ++i) {
            uint256 length = bytes(aliases[i]).length;
            require(length != 0 && length <= ALIAS_LIMIT, AliasInvalid(aliases[i]));
            bytes32 key = IOTRecords.aliasKey(aliases[i]);
            require(_index[key] == 0, AliasTaken(aliases[i], uint64(_index[key])));
            _index[key] = ALIAS_RECORD | number;
        }
    }

    /// @dev Gives a key to a device for ever.
    function _takeKey(uint64 number, bytes32 keyX, bytes32 keyY) private returns (bytes memory key) {
        require(P256.isValidPublicKey(keyX, keyY), DeviceKeyInvalid(keyX, keyY));
        key = abi.encodePacked(keyX, keyY);
        bytes32 keyHash = keccak256(key);
        require(_keys[keyHash] == 0, DeviceKeyTaken(_keys[keyHash]));
        _keys[keyHash] = number;

        emit DeviceKeySet(number, keyX, keyY);
    }

    /// @dev Makes a version that was read and changed the present one.
    function _replace(uint64 number, DeviceVersions.Version memory version) private {
        version.previous = _devices[number].version;
        _devices[number].version = version.write();
    }

    function _known(uint64 number) private view returns (DeviceVersions.Version memory) {
        address pointer = _devices[number].version;
        require(pointer != address(0), DeviceUnknown(number));
        return DeviceVersions.read(pointer);
    }

    /// @dev Returns on whose behalf the caller may ban a device: the city's or its registrant's.
    function _authorityOver(uint64 number) private view returns (Ban party, bytes16 administrator) {
        require(_exists(number), DeviceUnknown(number));
        if (msg.sender == owner()) return (Ban.City, 0);
        (bytes16 uuid, IIdentityRegistry.Kind kind, bool active) = IIdentityRegistry(_identities).standing(msg.sender);
        if (active && kind == IIdentityRegistry.Kind.Administrator) return (Ban.City, uuid);

        bytes32 name = _registrants[_callingRegistrant()].name;
        require(_holderOf(number) == name, DeviceOfAnother(number, msg.sender));
        return (Ban.Registrant, 0);
    }

    /// @dev Returns the name of a device's registrant, without the rest of its version.
    function _holderOf(uint64 number) private view returns (bytes32) {
        address pointer = _devices[number].version;
        if (pointer == address(0)) return _batchWith(number).registrant;
        return _registrants[DeviceVersions.registrantOf(pointer)].name;
    }

    /// @dev The EIP-712 hash that the registrant signs.
    function _digestOf(Registration calldata registration) private view returns (bytes32) {
        bytes32[] memory aliases = new bytes32[](registration.aliases.length);
        for (uint256 i = 0; i < aliases.length; ++i) {
            aliases[i] = keccak256(bytes(registration.aliases[i]));
        }
        bytes32 content = keccak256(
            abi.encode(
                REGISTRATION_TYPE,
                registration.registrant,
                keccak256(registration.nonce),
                keccak256(abi.encodePacked(aliases)),
                keccak256(bytes(registration.data)),
                keccak256(bytes(registration.spec)),
                registration.site,
                registration.keyX,
                registration.keyY
            )
        );
        bytes32 domain = keccak256(
            abi.encode(DOMAIN_TYPE, keccak256("BlockOTA DeviceRegistry"), keccak256("1"), block.chainid, address(this))
        );
        return keccak256(abi.encodePacked(hex"1901", domain, content));
    }
}
