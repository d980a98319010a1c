// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.28;

import {Ownable2Step} from "@openzeppelin/contracts/access/Ownable2Step.sol";

import {Texts} from "../Texts.sol";
import {IDeviceRegistrants} from "../interfaces/IDeviceRegistrants.sol";
import {IOTRecords} from "./IOTRecords.sol";

/// @title Registrants of devices
/// @notice See `IDeviceRegistrants`, which is the specification.
abstract contract DeviceRegistrants is IDeviceRegistrants, Ownable2Step {
    /// @dev The public key is the byte 2, or 3 if `odd`, followed by `keyX`.
    struct RegistrantEntry {
        address account;
        uint40 since;
        bool suspended;
        bool odd;
        bytes32 keyX;
        bytes32 name;
    }

    uint256 internal constant REGISTRANT_RECORD = 1 << 248;

    /// @dev Entries by the hash of the key of IOTRegistry's record. The first byte names the kind of the record; the
    /// rest is the index of a registrant or spec, or the number of a device.
    mapping(bytes32 keyHash => uint256) internal _index;

    /// @dev The index 0 belongs to no registrant.
    RegistrantEntry[] internal _registrants;
    mapping(bytes32 name => uint256 index) private _registrantIndexes;
    mapping(address account => uint256 index) private _accounts;

    constructor() {
        _registrants.push();
    }

    /// @inheritdoc IDeviceRegistrants
    function admitRegistrant(bytes32 name, bytes calldata publicKey, address account) external onlyOwner {
        bytes32 key = IOTRecords.registrantKey(publicKey);
        require(Texts.isName(name) && !Texts.hasSlash(Texts.textOf(name), 0), NameInvalid(name));
        require(publicKey.length == 33, PublicKeyInvalid(publicKey));
        require(publicKey[0] == 0x02 || publicKey[0] == 0x03, PublicKeyInvalid(publicKey));
        require(_registrantIndexes[name] == 0, RegistrantKnown(name));
        require(_index[key] == 0, PublicKeyTaken(publicKey));

        uint256 index = _registrants.length;
        RegistrantEntry storage entry = _registrants.push();
        entry.since = uint40(block.timestamp);
        entry.odd = publicKey[0] == 0x03;
        entry.keyX = bytes32(publicKey[1:]);
        entry.name = name;
        _registrantIndexes[name] = index;
        _index[key] = REGISTRANT_RECORD | index;
        _setAccount(index, account);

        emit RegistrantAdmitted(name, account, publicKey);
    }

    /// @inheritdoc IDeviceRegistrants
    function suspendRegistrant(bytes32 name) external onlyOwner {
        RegistrantEntry storage entry = _registrants[_knownRegistrant(name)];
        require(!entry.suspended, SuspensionUnchanged(name, true));
        entry.suspended = true;

        emit RegistrantSuspended(name);
    }

    /// @inheritdoc IDeviceRegistrants
    function restoreRegistrant(bytes32 name) external onlyOwner {
        RegistrantEntry storage entry = _registrants[_knownRegistrant(name)];
        require(entry.suspended, SuspensionUnchanged(name, false));
        entry.suspended = false;

        emit RegistrantRestored(name);
    }

    /// @inheritdoc IDeviceRegistrants
    function setRegistrantAccount(bytes32 name, address account) external onlyOwner {
        _setAccount(_knownRegistrant(name), account);

        emit RegistrantAccountChanged(name, account);
    }

    /// @inheritdoc IDeviceRegistrants
    function registrant(bytes32 name) external view returns (Registrant memory) {
        return _registrantAt(_registrantIndexes[name]);
    }

    /// @inheritdoc IDeviceRegistrants
    function registrantOf(address account) external view returns (Registrant memory) {
        return _registrantAt(_accounts[account]);
    }

    /// @inheritdoc IDeviceRegistrants
    function registrants(uint256 from, uint256 count) external view returns (Registrant[] memory records) {
        records = new Registrant[](_pageLength(from, count, _registrants.length - 1));
        for (uint256 i = 0; i < records.length; ++i) {
            records[i] = _registrantAt(1 + from + i);
        }
    }

    function _setAccount(uint256 index, address account) private {
        require(account != address(0), AccountMissing());
        uint256 former = _accounts[account];
        require(former == 0, RegistrantAccountTaken(account, _registrants[former].name));

        _registrants[index].account = account;
        _accounts[account] = index;
    }

    /// @dev Returns the registrant whose present account is the caller, and requires that it is not suspended.
    function _callingRegistrant() internal view returns (uint256 index) {
        index = _accounts[msg.sender];
        RegistrantEntry storage entry = _registrants[index];
        require(entry.account == msg.sender, NotARegistrant(msg.sender));
        require(!entry.suspended, RegistrantIsSuspended(entry.name));
    }

    function _knownRegistrant(bytes32 name) internal view returns (uint256 index) {
        index = _registrantIndexes[name];
        require(index != 0, RegistrantUnknown(name));
    }

    function _registrantAt(uint256 index) internal view returns (Registrant memory record) {
        if (index == 0) return record;
        RegistrantEntry storage entry = _registrants[index];
        record.name = entry.name;
        record.account = entry.account;
        record.suspended = entry.suspended;
        record.since = entry.since;
        record.publicKey = _publicKeyOf(index);
    }

    function _publicKeyOf(uint256 index) internal view returns (bytes memory) {
        RegistrantEntry storage entry = _registrants[index];
        return abi.encodePacked(entry.odd ? bytes1(0x03) : bytes1(0x02), entry.keyX);
    }

    function _pageLength(uint256 from, uint256 count, uint256 total) internal pure returns (uint256) {
        uint256 left = from < total ? total - from : 0;
        return count < left ? count : left;
    }
}
