// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.28;

import {Ownable} from "@openzeppelin/contracts/access/Ownable.sol";
import {Ownable2Step} from "@openzeppelin/contracts/access/Ownable2Step.sol";

import {IFirmwareReplication} from "./interfaces/IFirmwareReplication.sol";
import {IProducers} from "./interfaces/IProducers.sol";
import {Texts} from "./Texts.sol";

/// @title The producers whose releases a consortium's gateways follow
/// @notice See `IProducers`, which is the specification.
/// @dev Storage: slot 0 owner, 1 pending owner, 2 producers by name, 3 names by BlockOTA, 4 list of names.
contract Producers is IProducers, Ownable2Step {
    /// @dev The first three members share a word. An entry without BlockOTA is not a producer.
    struct Entry {
        address blockOta;
        bool suspended;
        uint40 since;
        address replication;
    }

    mapping(bytes32 name => Entry) private _entries;
    mapping(address blockOta => bytes32 name) private _names;
    bytes32[] private _list;

    /// @param initialOwner The consortium's Safe.
    constructor(address initialOwner) Ownable(initialOwner) {}

    /// @inheritdoc IProducers
    function admit(bytes32 name, address blockOta, address replication) external onlyOwner {
        Entry storage entry = _entries[name];
        require(Texts.isName(name), ProducerNameInvalid(name));
        require(entry.blockOta == address(0), ProducerKnown(name, entry.blockOta));
        require(blockOta.code.length != 0, ContractMissing(blockOta));
        require(_names[blockOta] == 0, BlockOtaTaken(blockOta, _names[blockOta]));
        if (replication != address(0)) _requireServes(replication, blockOta);

        entry.blockOta = blockOta;
        entry.since = uint40(block.timestamp);
        entry.replication = replication;
        _names[blockOta] = name;
        _list.push(name);

        emit ProducerAdmitted(name, blockOta, replication);
    }

    /// @inheritdoc IProducers
    function suspend(bytes32 name) external onlyOwner {
        Entry storage entry = _known(name);
        require(!entry.suspended, ProducerSuspendedAlready(name));

        entry.suspended = true;

        emit ProducerSuspended(name);
    }

    /// @inheritdoc IProducers
    function restore(bytes32 name) external onlyOwner {
        Entry storage entry = _known(name);
        require(entry.suspended, ProducerNotSuspended(name));

        entry.suspended = false;

        emit ProducerRestored(name);
    }

    /// @notice Always reverts: the contract must have an owner.
    /// @dev Reverts with `RenouncingRefused` for every caller.
    function renounceOwnership() public pure override {
        revert RenouncingRefused();
    }

    /// @inheritdoc IProducers
    function producer(bytes32 name) public view returns (Producer memory record) {
        Entry storage entry = _entries[name];
        if (entry.blockOta == address(0)) return record;
        record.name = name;
        record.blockOta = entry.blockOta;
        record.replication = entry.replication;
        record.suspended = entry.suspended;
        record.since = entry.since;
    }

    /// @inheritdoc IProducers
    function producerOf(address blockOta) external view returns (Producer memory) {
        return producer(_names[blockOta]);
    }

    /// @inheritdoc IProducers
    function producers(uint256 from, uint256 count) external view returns (Producer[] memory records) {
        uint256 total = _list.length;
        uint256 left = from < total ? total - from : 0;
        records = new Producer[](count < left ? count : left);
        for (uint256 i = 0; i < records.length; ++i) {
            records[i] = producer(_list[from + i]);
        }
    }

    /// @inheritdoc IProducers
    function producerCount() external view returns (uint256) {
        return _list.length;
    }

    /// @dev Requires that the contract states that it serves the releases of this BlockOTA.
    function _requireServes(address replication, address blockOta) private view {
        require(replication.code.length != 0, ContractMissing(replication));
        address served = address(0);
        try IFirmwareReplication(replication).blockOta() returns (address answer) {
            served = answer;
        } catch {} // the address 0 is refused below
        require(served == blockOta, ReplicationOfAnother(replication, served, blockOta));
    }

    function _known(bytes32 name) private view returns (Entry storage entry) {
        entry = _entries[name];
        require(entry.blockOta != address(0), ProducerUnknown(name));
    }
}
