// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.28;

import {IProducers} from "../../contracts/interfaces/IProducers.sol";
import {HalmosCheck} from "./Halmos.sol";

/// @title Properties of Producers that every call preserves, proven by Halmos
/// @notice As in CheckBlockOTA: every sender, function and argument, from every storage that satisfies the check's
/// assumptions. This contract is the BlockOTA of every admission, and its FirmwareReplication, if it has one.
contract CheckProducers is HalmosCheck {
    /// @dev The bits of an entry's first word that never change: address and time.
    uint256 private constant FIXED = ~(uint256(0xFF) << 160);

    address private _producers;
    address private _served;

    function setUp() external {
        _producers = _deploy(".build/forge/halmos/Producers.sol/Producers.json", SAFE);
        _fillWithAnything(_producers);
        _served = address(uint160(uint256(svm.createBytes32("served"))));
    }

    /// @notice The function of FirmwareReplication: any answer.
    function blockOta() external view returns (address) {
        return _served;
    }

    function check_P1_onlyTheSuspensionOfAProducerChanges(address sender, bytes32 name) external {
        (uint256 first, bytes32 replication) = _entry(name);
        vm.assume(uint160(first) != 0);
        vm.assume(_callProducers(sender));
        (uint256 laterFirst, bytes32 laterReplication) = _entry(name);
        assert(_both(first & FIXED == laterFirst & FIXED, replication == laterReplication));
    }

    function check_P2_aBlockOtaStaysWithItsProducer(address sender, address record) external {
        bytes32 name = _nameOf(record);
        vm.assume(name != 0);
        vm.assume(_callProducers(sender));
        assert(_nameOf(record) == name);
    }

    function check_P2_anAdmittedNameIsTheOneOfItsBlockOta(address sender, bytes32 name) external {
        (uint256 first, ) = _entry(name);
        vm.assume(uint160(first) == 0);
        vm.assume(_callProducers(sender));
        (first, ) = _entry(name);
        assert(_either(uint160(first) == 0, _nameOf(address(uint160(first))) == name));
    }

    function check_P4_onlyTheOwnerChangesProducers(address sender, bytes32 name, address record) external {
        vm.assume(sender != _ownerIn(0));
        (uint256 first, ) = _entry(name);
        (bytes32 holder, uint256 count) = (_nameOf(record), IProducers(_producers).producerCount());
        vm.assume(_callProducers(sender));
        (uint256 laterFirst, ) = _entry(name);
        assert(_both(first == laterFirst, holder == _nameOf(record)));
        assert(count == IProducers(_producers).producerCount());
    }

    function check_P4_theOwnerChangesOnlyToThePendingOneWhoAccepts(address sender) external {
        (address owner, address pending) = (_ownerIn(0), _ownerIn(1));
        vm.assume(_both(owner != address(0), sender != address(0)));
        vm.assume(_callProducers(sender));
        address later = _ownerIn(0);
        assert(_both(later != address(0), _either(later == owner, _both(later == pending, sender == pending))));
    }

    /// @dev Must fail: proves that the assumptions of P1 and P4 allow an admission.
    /// @custom:halmos --early-exit
    function check_reachable_aProducerIsAdmitted(address sender, bytes32 name) external {
        (uint256 first, ) = _entry(name);
        vm.assume(_both(uint160(first) == 0, _ownerIn(0) != SAFE));
        vm.assume(_callProducers(sender));
        (first, ) = _entry(name);
        assert(uint160(first) == 0);
    }

    /// @dev Must fail: proves that the assumption of P1 allows a suspension to end.
    /// @custom:halmos --early-exit
    function check_reachable_aProducerIsRestored(address sender, bytes32 name) external {
        (uint256 first, ) = _entry(name);
        vm.assume(uint160(first) != 0);
        vm.assume(_callProducers(sender));
        (uint256 later, ) = _entry(name);
        assert(!_both(first & ~FIXED != 0, later & ~FIXED == 0));
    }

    /// @dev Makes any writing call as any sender; returns whether it succeeded. The list has fewer than 2^64 names.
    function _callProducers(address sender) private returns (bool done) {
        vm.assume(IProducers(_producers).producerCount() < 1 << 64);
        bytes memory data = svm.createCalldata("Producers");
        if (bytes4(data) == IProducers.admit.selector) {
            address replication = _argument(data, 2) == 0 ? address(0) : address(this);
            // The name is fixed in its format only: any first character, then zeros.
            bytes32 name = bytes32(bytes1(_argument(data, 0)));
            data = abi.encodeCall(IProducers.admit, (name, address(this), replication));
        }
        vm.prank(sender);
        (done, ) = _producers.call(data);
    }

    function _entry(bytes32 name) private view returns (uint256 first, bytes32 replication) {
        uint256 place = uint256(keccak256(abi.encode(name, 2)));
        first = uint256(vm.load(_producers, bytes32(place)));
        replication = vm.load(_producers, bytes32(place + 1));
    }

    function _nameOf(address record) private view returns (bytes32) {
        return vm.load(_producers, keccak256(abi.encode(record, 3)));
    }

    function _ownerIn(uint256 slot) private view returns (address) {
        return address(uint160(uint256(vm.load(_producers, bytes32(slot)))));
    }
}
