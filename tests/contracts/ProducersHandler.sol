// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.28;

import {Ownable} from "@openzeppelin/contracts/access/Ownable.sol";
import {Ownable2Step} from "@openzeppelin/contracts/access/Ownable2Step.sol";

import {IProducers} from "../../contracts/interfaces/IProducers.sol";
import {ForgeTest} from "./Forge.sol";

/// @title A contract with the getter of FirmwareReplication
contract Agreements {
    address public immutable blockOta;

    constructor(address record) {
        blockOta = record;
    }
}

/// @title Handler for the invariant tests of Producers: every action, and a model of the expected state
/// @notice Foundry calls these functions in random order. Each derives from the model whether the contract must revert
/// and with which error, calls the contract, and updates the model.
contract ProducersHandler is ForgeTest {
    uint256 public constant NAMES = 6;
    uint256 public constant RECORDS = 5;

    IProducers public immutable producers;
    address public owner = address(0x5AFE);

    /// @notice Contracts that can be admitted; the last two are accounts without code.
    address[RECORDS] public records;

    /// @notice For each of the first three contracts its agreements; then a contract without the getter and an account.
    address[RECORDS] public agreements;

    /// @notice The producers in the order of their admission.
    IProducers.Producer[] internal _admitted;

    constructor() {
        vm.warp(1_700_000_000);
        producers = IProducers(_deploy("Producers", abi.encode(owner)));
        for (uint256 i = 0; i < RECORDS; ++i) {
            records[i] = i < 3 ? address(new Agreements(address(0))) : address(uint160(0xD0 + i));
            agreements[i] = i < 3 ? address(new Agreements(records[i])) : address(uint160(0xE0 + i));
        }
        agreements[3] = address(this);
    }

    /// @notice Admits a producer, usually as the owner, whose name or contracts may be taken or wrong.
    function admit(uint256 who, uint256 name, uint256 record, uint256 seed) external {
        (name, record) = (name % NAMES, record % RECORDS);
        address served = seed % 4 == 0 ? address(0) : agreements[seed % 8 == 1 ? (seed / 8) % RECORDS : record];
        address sender = _ownerOr(who);
        bytes memory refusal = _asOwner(sender);
        if (refusal.length == 0) refusal = _refusalOf(nameOf(name), record, served);
        if (refusal.length == 0) {
            _admitted.push(
                IProducers.Producer(nameOf(name), records[record], served, false, uint40(block.timestamp))
            );
        }
        bytes memory call = abi.encodeCall(producers.admit, (nameOf(name), records[record], served));
        _expect(sender, address(producers), call, refusal);
    }

    /// @notice Suspends a producer, or restores it, which may be in that state already.
    function suspend(uint256 who, uint256 name, bool suspended) external {
        bytes32 key = nameOf(name % NAMES);
        (address sender, uint256 index) = (_ownerOr(who), indexOf(key));
        bytes memory refusal = _asOwner(sender);
        if (refusal.length == 0 && index == _admitted.length) {
            refusal = abi.encodeWithSelector(IProducers.ProducerUnknown.selector, key);
        } else if (refusal.length == 0 && _admitted[index].suspended == suspended) {
            bytes4 selector = IProducers.ProducerNotSuspended.selector;
            if (suspended) selector = IProducers.ProducerSuspendedAlready.selector;
            refusal = abi.encodeWithSelector(selector, key);
        } else if (refusal.length == 0) {
            _admitted[index].suspended = suspended;
        }
        bytes memory call = abi.encodeCall(producers.suspend, (key));
        if (!suspended) call = abi.encodeCall(producers.restore, (key));
        _expect(sender, address(producers), call, refusal);
    }

    /// @notice Transfers the ownership in two steps, seldom.
    function handOver(uint256 seed) external {
        if (seed % 8 != 0) return;
        address next = address(uint160(_pick(seed, 0x6000, 0x7000)));
        _expect(owner, address(producers), abi.encodeCall(Ownable2Step.transferOwnership, (next)), "");
        _expect(next, address(producers), abi.encodeCall(Ownable2Step.acceptOwnership, ()), "");
        owner = next;
    }

    /// @notice Advances the time by at most a day.
    function warp(uint256 time) external {
        vm.warp(block.timestamp + _pick(time, 0, 1 days));
    }

    /// @notice Returns the producers in the order of their admission.
    function admitted() external view returns (IProducers.Producer[] memory) {
        return _admitted;
    }

    /// @notice Returns the place of a producer in the list, or the length of the list.
    function indexOf(bytes32 name) public view returns (uint256 index) {
        while (index < _admitted.length && _admitted[index].name != name) ++index;
    }

    /// @notice The last name is not valid.
    function nameOf(uint256 which) public pure returns (bytes32) {
        if (which == NAMES - 1) return "two words";
        return bytes32(abi.encodePacked("acme-", bytes1(uint8(0x61 + which))));
    }

    function _refusalOf(bytes32 name, uint256 record, address served) private view returns (bytes memory) {
        uint256 index = indexOf(name);
        if (name == "two words") return abi.encodeWithSelector(IProducers.ProducerNameInvalid.selector, name);
        if (index < _admitted.length) {
            return abi.encodeWithSelector(IProducers.ProducerKnown.selector, name, _admitted[index].blockOta);
        }
        if (record > 2) return abi.encodeWithSelector(IProducers.ContractMissing.selector, records[record]);
        for (index = 0; index < _admitted.length; ++index) {
            if (_admitted[index].blockOta != records[record]) continue;
            return abi.encodeWithSelector(IProducers.BlockOtaTaken.selector, records[record], _admitted[index].name);
        }
        if (served == address(0) || served == agreements[record]) return "";
        if (served == agreements[4]) return abi.encodeWithSelector(IProducers.ContractMissing.selector, served);
        address other = served == agreements[3] ? address(0) : Agreements(served).blockOta();
        return abi.encodeWithSelector(IProducers.ReplicationOfAnother.selector, served, other, records[record]);
    }

    function _asOwner(address sender) private view returns (bytes memory) {
        if (sender == owner) return "";
        return abi.encodeWithSelector(Ownable.OwnableUnauthorizedAccount.selector, sender);
    }

    function _ownerOr(uint256 who) private view returns (address) {
        return who % 8 == 0 ? address(uint160(_pick(who, 1, 100))) : owner;
    }
}
