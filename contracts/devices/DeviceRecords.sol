// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.28;

import {Texts} from "../Texts.sol";
import {IDeviceRegistry} from "../interfaces/IDeviceRegistry.sol";
import {DeviceSites} from "./DeviceSites.sol";
import {DeviceSpecs} from "./DeviceSpecs.sol";
import {DeviceVersions} from "./DeviceVersions.sol";
import {IOTRecords} from "./IOTRecords.sol";

/// @title What DeviceRegistry stores of devices, and the functions that read it
/// @notice See `IDeviceRegistry`, which is the specification.
abstract contract DeviceRecords is IDeviceRegistry, DeviceSpecs, DeviceSites {
    /// @dev All members share one word. `version` is 0 for a device of a batch.
    struct DeviceEntry {
        address version;
        uint40 bannedAt;
        Ban ban;
    }

    struct BatchEntry {
        bytes32 root;
        uint64 first;
        uint64 count;
        uint40 since;
        uint32 registrant;
        uint32 spec;
    }

    uint256 internal constant THING_RECORD = 3 << 248;
    uint256 internal constant ALIAS_RECORD = 4 << 248;

    mapping(uint64 number => DeviceEntry) internal _devices;
    mapping(bytes32 keyHash => uint64 number) internal _keys;
    /// @dev The batches of each site, in the order of their numbers, because the numbers of a site only grow.
    mapping(uint32 siteIndex => BatchEntry[]) internal _batches;

    /// @inheritdoc IDeviceRegistry
    function identities() external view returns (address) {
        return _identities;
    }

    /// @inheritdoc IDeviceRegistry
    function record(string calldata key) external view returns (bytes memory value) {
        uint256 entry = _index[keccak256(bytes(key))];
        uint256 kind = entry & (type(uint256).max << 248);
        uint256 id = entry ^ kind;
        if (kind == REGISTRANT_RECORD) {
            return IOTRecords.registrant(Texts.textOf(_registrants[id].name), _publicKeyOf(id));
        }
        if (kind == SPEC_RECORD) return _specAt(id).record;
        if (kind == 0) return value;
        DeviceVersions.Version memory version = DeviceVersions.read(_devices[uint64(id)].version);
        return kind == ALIAS_RECORD ? IOTRecords.aliasOf(version.nonce) : version.record;
    }

    /// @inheritdoc IDeviceRegistry
    function device(uint64 number) public view returns (Device memory found) {
        DeviceEntry memory entry = _devices[number];
        if (entry.version != address(0)) {
            DeviceVersions.Version memory version = DeviceVersions.read(entry.version);
            found.registrant = _registrants[version.registrant].name;
            found.specHash = _specs[version.spec].specHash;
            found.imported = version.signature.length != 0;
            found.since = version.since;
            found.fromBlock = version.fromBlock;
            found.key = version.key;
            found.nonce = version.nonce;
            found.signature = version.signature;
            found.record = version.record;
        } else {
            Batch memory batch = _batchWith(number);
            if (batch.count == 0) return found;
            found.registrant = batch.registrant;
            found.specHash = batch.specHash;
            found.since = batch.since;
        }
        found.number = number;
        found.site = siteOf(number);
        found.ban = entry.ban;
        found.bannedAt = entry.bannedAt;
    }

    /// @inheritdoc IDeviceRegistry
    function devices(uint64 from, uint64 count) external view returns (Device[] memory found) {
        uint256 end = uint256(from) + count;
        uint256 last = (uint256(blockCount) + 1) * 256;
        if (end > last) end = last;
        uint256 length = 0;
        for (uint256 i = from; i < end; ++i) {
            if (_exists(uint64(i))) ++length;
        }
        found = new Device[](length);
        for (uint256 i = end; length != 0; ) {
            if (_exists(uint64(--i))) found[--length] = device(uint64(i));
        }
    }

    /// @inheritdoc IDeviceRegistry
    function numberOf(string calldata aliasText) external view returns (uint64) {
        return uint64(_index[IOTRecords.aliasKey(aliasText)]);
    }

    /// @inheritdoc IDeviceRegistry
    function numberOfKey(bytes32 keyX, bytes32 keyY) external view returns (uint64) {
        return _keys[keccak256(abi.encode(keyX, keyY))];
    }

    /// @inheritdoc IDeviceRegistry
    function generations(uint64 number) external view returns (Generation[] memory versions) {
        uint256 length = 0;
        address pointer = _devices[number].version;
        for (address at = pointer; at != address(0); ++length) at = DeviceVersions.previousOf(at);
        versions = new Generation[](length);
        uint64 toBlock = 0;
        for (uint256 i = 0; i < length; ++i) {
            DeviceVersions.Version memory version = DeviceVersions.read(pointer);
            bytes32 name = _registrants[version.registrant].name;
            versions[i] = Generation(name, version.key, version.fromBlock, toBlock);
            (pointer, toBlock) = (version.previous, version.fromBlock);
        }
    }

    /// @inheritdoc IDeviceRegistry
    function batchOf(uint64 number) external view returns (Batch memory) {
        return _batchWith(number);
    }

    /// @inheritdoc IDeviceRegistry
    function batches(bytes16 site_, uint256 from, uint256 count) external view returns (Batch[] memory found) {
        BatchEntry[] storage all = _batches[_sites[site_].index];
        found = new Batch[](_pageLength(from, count, all.length));
        for (uint256 i = 0; i < found.length; ++i) {
            found[i] = _batchOf(all[from + i]);
        }
    }

    function _exists(uint64 number) internal view returns (bool) {
        return _devices[number].version != address(0) || _batchWith(number).count != 0;
    }

    /// @dev Returns the last batch of the site that begins at or before a number, if it contains the number.
    function _batchWith(uint64 number) internal view returns (Batch memory found) {
        BatchEntry[] storage all = _batches[_indexOf(number / 256)];
        (uint256 low, uint256 high) = (0, all.length);
        while (low < high) {
            uint256 middle = (low + high) / 2;
            if (all[middle].first <= number) low = middle + 1;
            else high = middle;
        }
        if (low == 0 || number - all[low - 1].first >= all[low - 1].count) return found;
        return _batchOf(all[low - 1]);
    }

    function _batchOf(BatchEntry storage entry) private view returns (Batch memory) {
        bytes32 specHash = _specs[entry.spec].specHash;
        bytes32 name = _registrants[entry.registrant].name;
        return Batch(entry.first, entry.count, entry.root, specHash, name, entry.since);
    }
}
