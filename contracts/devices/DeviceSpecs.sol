// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.28;

import {CodeRecord} from "../CodeRecord.sol";
import {Texts} from "../Texts.sol";
import {IDeviceRegistrants} from "../interfaces/IDeviceRegistrants.sol";
import {DeviceRegistrants} from "./DeviceRegistrants.sol";
import {IOTRecords} from "./IOTRecords.sol";

/// @title Specifications of the devices' models, and the products that may update them
/// @notice See `IDeviceRegistrants`, which is the specification.
abstract contract DeviceSpecs is DeviceRegistrants {
    /// @dev `pointer` is the code with the length of the name, the name, the length of the signature, the signature and
    /// the record. `positions` are the positions in `list` plus 1.
    struct SpecEntry {
        bytes32 specHash;
        address pointer;
        uint32 registrant;
        Update[] list;
        mapping(bytes32 update => uint256) positions;
    }

    uint256 private constant SPEC_LIMIT = 64;
    uint256 private constant DATA_LIMIT = 2048;
    uint256 private constant SIGNATURE_LIMIT = 255;

    uint256 internal constant SPEC_RECORD = 2 << 248;

    /// @dev The index 0 belongs to no spec.
    SpecEntry[] internal _specs;
    mapping(bytes32 specHash => uint256 index) private _specIndexes;

    constructor() {
        _specs.push();
    }

    /// @inheritdoc IDeviceRegistrants
    function registerSpec(string calldata name, string calldata data) external {
        uint256 registrantIndex = _callingRegistrant();
        require(Texts.isVisible(bytes(name), 0), SpecNameInvalid(name));
        _registerSpec(registrantIndex, name, data, "");
    }

    /// @inheritdoc IDeviceRegistrants
    function importSpec(
        bytes32 registrant_,
        string calldata name,
        string calldata data,
        bytes calldata signature
    ) external onlyOwner {
        _requireSignature(signature);
        _registerSpec(_knownRegistrant(registrant_), name, data, signature);
    }

    /// @inheritdoc IDeviceRegistrants
    function allow(bytes32 specHash, uint64 chain, address blockOta, bytes32 product) external {
        SpecEntry storage entry = _specs[_ownSpec(specHash, _callingRegistrant())];
        require(chain != 0 && blockOta != address(0), UpdateInvalid(chain, blockOta));
        require(Texts.isName(product), NameInvalid(product));
        _setUpdate(entry, Update(chain, blockOta, true, product));

        emit UpdateAllowed(specHash, chain, blockOta, product);
    }

    /// @inheritdoc IDeviceRegistrants
    function disallow(bytes32 specHash, uint64 chain, address blockOta, bytes32 product) external {
        SpecEntry storage entry = _specs[_ownSpec(specHash, _callingRegistrant())];
        _setUpdate(entry, Update(chain, blockOta, false, product));

        emit UpdateDisallowed(specHash, chain, blockOta, product);
    }

    /// @inheritdoc IDeviceRegistrants
    function allows(bytes32 specHash, uint64 chain, address blockOta, bytes32 product) external view returns (bool) {
        SpecEntry storage entry = _specs[_specIndexes[specHash]];
        uint256 position = entry.positions[_updateKey(chain, blockOta, product)];
        return position != 0 && entry.list[position - 1].allowed;
    }

    /// @inheritdoc IDeviceRegistrants
    function updates(bytes32 specHash, uint256 from, uint256 count) external view returns (Update[] memory list) {
        Update[] storage all = _specs[_specIndexes[specHash]].list;
        list = new Update[](_pageLength(from, count, all.length));
        for (uint256 i = 0; i < list.length; ++i) {
            list[i] = all[from + i];
        }
    }

    /// @inheritdoc IDeviceRegistrants
    function spec(bytes32 specHash) external view returns (Spec memory) {
        return _specAt(_specIndexes[specHash]);
    }

    /// @inheritdoc IDeviceRegistrants
    function specs(uint256 from, uint256 count) external view returns (Spec[] memory records) {
        records = new Spec[](_pageLength(from, count, _specs.length - 1));
        for (uint256 i = 0; i < records.length; ++i) {
            records[i] = _specAt(1 + from + i);
        }
    }

    function _registerSpec(
        uint256 registrantIndex,
        string calldata name,
        string calldata data,
        bytes memory signature
    ) private {
        bytes32 specHash = keccak256(bytes(name));
        uint256 length = bytes(name).length;
        require(length != 0 && length <= SPEC_LIMIT, SpecNameInvalid(name));
        require(!Texts.hasSlash(bytes(name), 0), SpecNameInvalid(name));
        require(_specIndexes[specHash] == 0, SpecKnown(name));
        _requireData(data);

        uint256 index = _specs.length;
        SpecEntry storage entry = _specs.push();
        entry.specHash = specHash;
        entry.registrant = uint32(registrantIndex);
        entry.pointer = _write(name, signature, IOTRecords.spec(data, _publicKeyOf(registrantIndex)));
        _specIndexes[specHash] = index;
        _index[IOTRecords.specKey(name)] = SPEC_RECORD | index;

        emit SpecRegistered(specHash, _registrants[registrantIndex].name, name, signature.length != 0);
    }

    function _write(string memory name, bytes memory signature, bytes memory record) private returns (address) {
        uint8 length = uint8(bytes(name).length);
        return CodeRecord.write(abi.encodePacked(length, name, uint8(signature.length), signature, record));
    }

    /// @dev Writes a new entry of the list, or changes `allowed` of the present one.
    function _setUpdate(SpecEntry storage entry, Update memory update) private {
        bytes32 key = _updateKey(update.chain, update.blockOta, update.product);
        uint256 position = entry.positions[key];
        bool allowed = position != 0 && entry.list[position - 1].allowed;
        require(
            allowed != update.allowed,
            UpdateUnchanged(entry.specHash, update.chain, update.blockOta, update.product, allowed)
        );

        if (position != 0) {
            entry.list[position - 1].allowed = update.allowed;
        } else {
            entry.list.push(update);
            entry.positions[key] = entry.list.length;
        }
    }

    /// @dev Returns the spec, and requires that it belongs to the registrant.
    function _ownSpec(bytes32 specHash, uint256 registrantIndex) internal view returns (uint256 index) {
        index = _specIndexes[specHash];
        require(index != 0, SpecUnknown(specHash));
        uint256 owner_ = _specs[index].registrant;
        require(owner_ == registrantIndex, SpecOfAnotherRegistrant(specHash, _registrants[owner_].name));
    }

    function _specAt(uint256 index) internal view returns (Spec memory record) {
        if (index == 0) return record;
        SpecEntry storage entry = _specs[index];
        address pointer = entry.pointer;
        uint256 length = uint8(CodeRecord.read(pointer, 0, 1)[0]);
        uint256 signed = uint8(CodeRecord.read(pointer, 1 + length, 1)[0]);
        uint256 recordAt = 2 + length + signed;
        record.specHash = entry.specHash;
        record.registrant = _registrants[entry.registrant].name;
        record.name = string(CodeRecord.read(pointer, 1, length));
        record.imported = signed != 0;
        record.signature = CodeRecord.read(pointer, 2 + length, signed);
        record.record = CodeRecord.read(pointer, recordAt, CodeRecord.size(pointer) - recordAt);
    }

    function _requireData(string memory data) internal pure {
        require(bytes(data).length <= DATA_LIMIT, TextTooLong(bytes(data).length, DATA_LIMIT));
    }

    function _requireSignature(bytes memory signature) internal pure {
        uint256 length = signature.length;
        require(length != 0 && length <= SIGNATURE_LIMIT, SignatureLengthInvalid(length, SIGNATURE_LIMIT));
    }

    function _updateKey(uint64 chain, address blockOta, bytes32 product) private pure returns (bytes32) {
        return keccak256(abi.encode(chain, blockOta, product));
    }
}
