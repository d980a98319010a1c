// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.28;

import {IBlockOTA} from "../../contracts/interfaces/IBlockOTA.sol";
import {IWholeBlockOTA} from "./Forge.sol";
import {HalmosCheck} from "./Halmos.sol";

/// @title What no call whatever can do to BlockOTA
/// @notice Halmos proves each check for every sender, every writing function and every argument (arrays and texts of the
/// lengths in halmos.toml), and from every content of the storage that fulfils what the check assumes. What holds before
/// and after any call holds for ever.
contract CheckBlockOTA is HalmosCheck {
    IWholeBlockOTA private _record;
    bool private _answer;

    function setUp() external {
        _record = IWholeBlockOTA(_deploy(".build/forge/halmos/BlockOTA.sol/BlockOTA.json", address(0x5AFE)));
        svm.enableSymbolicStorage(address(_record));
    }

    /// @notice What BlockOTA asks a Safe, where a check makes this contract the owner.
    function isOwner(address) external view returns (bool) {
        return _answer;
    }

    function check_B1_aRecordNeverChangesButToRevoked(address sender, bytes32 product, uint64 version) external {
        IBlockOTA.ReleaseRecord memory before = _record.release(product, version);
        vm.assume(before.version == version && version != 0 && version <= _record.productRecord(product).head);
        _callBlockOTA(address(_record), sender);
        IBlockOTA.ReleaseRecord memory later = _record.release(product, version);
        assert(later.status == before.status || later.status == IBlockOTA.Status.Revoked);
        later.status = before.status;
        assert(keccak256(abi.encode(later)) == keccak256(abi.encode(before)));
    }

    function check_B2_theHeadOnlyRises(address sender, bytes32 product) external {
        uint64 before = _record.productRecord(product).head;
        vm.assume(_record.productRecord(product).oem != 0);
        _callBlockOTA(address(_record), sender);
        assert(_record.productRecord(product).head >= before);
    }

    function check_B4_theFloorOnlyRises(address sender, bytes32 product) external {
        uint64 before = _record.productRecord(product).minimumVersion;
        _callBlockOTA(address(_record), sender);
        assert(_record.productRecord(product).minimumVersion >= before);
    }

    function check_B6_aStrangerChangesNothing(address sender, bytes32 product, uint64 version) external {
        vm.assume(_record.owner() == address(this) && !_answer);
        vm.assume(sender != address(this) && sender != _record.pendingOwner());
        bytes32 before = _state(product, version);
        _callBlockOTA(address(_record), sender);
        assert(_state(product, version) == before);
    }

    function check_B6_theOwnerChangesOnlyToThePendingOneWhoAccepts(address sender) external {
        (address owner, address pending) = (_record.owner(), _record.pendingOwner());
        vm.assume(owner != address(0) && sender != address(0));
        _callBlockOTA(address(_record), sender);
        assert(_record.owner() != address(0));
        assert(_record.owner() == owner || (_record.owner() == pending && sender == pending));
    }

    function check_B7_whilePausedNothingIsPublishedAndOnlyTheOwnerResumes(address sender, bytes32 product) external {
        vm.assume(_record.paused() && _record.productRecord(product).oem != 0);
        (uint64 head, address owner) = (_record.productRecord(product).head, _record.owner());
        _callBlockOTA(address(_record), sender);
        assert(_record.productRecord(product).head == head);
        assert(_record.paused() || sender == owner);
    }

    function check_B7_onlyTheOwnerAndItsOwnersPause(address sender, bool answer) external {
        vm.assume(_record.owner() == address(this));
        _answer = answer;
        bool before = _record.paused();
        vm.prank(sender);
        (bool done, ) = address(_record).call(abi.encodeCall(IBlockOTA.pause, ()));
        assert(done == (!before && (sender == address(this) || answer)));
        assert(_record.paused() == (before || done));
    }

    function check_B7_anOwnerWithoutCodeHasNoOwners(address sender, address owner) external {
        vm.assume(_record.owner() == owner && owner == address(0x5AFE) && !_record.paused());
        vm.prank(sender);
        (bool done, ) = address(_record).call(abi.encodeCall(IBlockOTA.pause, ()));
        assert(done == (sender == owner));
    }

    /// @dev All that a reader can ask about a release, its product and the contract.
    function _state(bytes32 product, uint64 version) private view returns (bytes32) {
        IBlockOTA.ProductRecord memory productRecord = _record.productRecord(product);
        IBlockOTA.ReleaseRecord memory release = _record.release(product, version);
        address[2] memory owners = [_record.owner(), _record.pendingOwner()];
        return keccak256(abi.encode(productRecord, release, owners, _record.paused()));
    }
}
