// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.28;

import {IBlockOTA} from "../../contracts/interfaces/IBlockOTA.sol";
import {IWholeBlockOTA} from "./Forge.sol";
import {HalmosCheck} from "./Halmos.sol";

/// @title Properties of BlockOTA that every call preserves, proven by Halmos
/// @notice Halmos proves each check for every sender, every writing function and every argument (arrays and texts of
/// the lengths in halmos.toml), from every storage that satisfies the check's assumptions. A property that every call
/// preserves is an invariant. Reverted calls are skipped: the EVM discards their changes.
contract CheckBlockOTA is HalmosCheck {
    IWholeBlockOTA private _record;
    /// @dev The last bit is the answer of `isOwner` for every account, if this contract is the owner.
    uint256 private _answer;

    function setUp() external {
        _record = IWholeBlockOTA(_deploy(".build/forge/halmos/BlockOTA.sol/BlockOTA.json", SAFE));
        _fillWithAnything(address(_record));
        _answer = uint256(svm.createBytes32("answer"));
    }

    /// @notice The function of a Safe that BlockOTA calls, if a check makes this contract the owner.
    function isOwner(address) external view returns (bool) {
        return _answer & 1 == 1;
    }

    function check_B1_aRecordNeverChangesButToRevoked(address sender, bytes32 product, uint64 version) external {
        IBlockOTA.ReleaseRecord memory before = _record.release(product, version);
        vm.assume(before.version == version && version != 0 && version <= _record.productRecord(product).head);
        vm.assume(_callBlockOTA(address(_record), sender));
        IBlockOTA.ReleaseRecord memory later = _record.release(product, version);
        assert(later.status == before.status || later.status == IBlockOTA.Status.Revoked);
        later.status = before.status;
        assert(keccak256(abi.encode(later)) == keccak256(abi.encode(before)));
    }

    function check_B2_theHeadOnlyRises(address sender, bytes32 product) external {
        uint64 before = _record.productRecord(product).head;
        vm.assume(_record.productRecord(product).oem != 0);
        vm.assume(_callBlockOTA(address(_record), sender));
        assert(_record.productRecord(product).head >= before);
    }

    function check_B4_theFloorOnlyRises(address sender, bytes32 product) external {
        uint64 before = _record.productRecord(product).minimumVersion;
        vm.assume(_callBlockOTA(address(_record), sender));
        assert(_record.productRecord(product).minimumVersion >= before);
    }

    function check_B6_aStrangerChangesNothing(address sender, bytes32 product, uint64 version) external {
        vm.assume(_record.owner() == address(this) && _answer & 1 == 0);
        vm.assume(sender != address(this) && sender != _record.pendingOwner());
        bytes32 before = _state(product, version);
        assert(!_callBlockOTA(address(_record), sender));
        assert(_state(product, version) == before);
    }

    function check_B6_theOwnerChangesOnlyToThePendingOneWhoAccepts(address sender) external {
        (address owner, address pending) = (_record.owner(), _record.pendingOwner());
        vm.assume(owner != address(0) && sender != address(0));
        vm.assume(_callBlockOTA(address(_record), sender));
        assert(_record.owner() != address(0));
        assert(_record.owner() == owner || (_record.owner() == pending && sender == pending));
    }

    function check_B7_whilePausedNothingIsPublishedAndOnlyTheOwnerResumes(address sender, bytes32 product) external {
        vm.assume(_record.paused() && _record.productRecord(product).oem != 0);
        (uint64 head, address owner) = (_record.productRecord(product).head, _record.owner());
        vm.assume(_callBlockOTA(address(_record), sender));
        assert(_record.productRecord(product).head == head);
        assert(_record.paused() || sender == owner);
    }

    function check_B7_onlyTheOwnerAndItsOwnersPause(address sender) external {
        vm.assume(_record.owner() == address(this));
        (bool before, bool answer) = (_record.paused(), _answer & 1 == 1);
        vm.prank(sender);
        (bool done, ) = address(_record).call(abi.encodeCall(IBlockOTA.pause, ()));
        assert(done == (!before && (sender == address(this) || answer)));
        assert(_record.paused() == (before || done));
    }

    function check_B7_anOwnerWithoutCodeHasNoOwners(address sender, address owner) external {
        vm.assume(_record.owner() == owner && owner == SAFE && !_record.paused());
        vm.prank(sender);
        (bool done, ) = address(_record).call(abi.encodeCall(IBlockOTA.pause, ()));
        assert(done == (sender == owner));
    }

    /// @dev Must fail: proves that the checks also start from paused contracts and from owners other than the deployer.
    /// @custom:halmos --early-exit
    function check_reachable_anotherOwnerResumes(address sender) external {
        bool before = _record.paused();
        bool done = _callBlockOTA(address(_record), sender);
        assert(!_both(_both(done, sender != SAFE), _both(before, !_record.paused())));
    }

    /// @dev Must fail: proves that the assumptions of B1 and B2 allow another owner and a rising head.
    /// @custom:halmos --early-exit
    function check_reachable_anotherOwnerPublishes(address sender, bytes32 product, uint64 version) external {
        uint64 before = _record.productRecord(product).head;
        vm.assume(_record.release(product, version).version == version && version != 0 && version <= before);
        vm.assume(_callBlockOTA(address(_record), sender));
        assert(!_both(sender != SAFE, _record.productRecord(product).head > before));
    }

    /// @dev Hashes the results of all getters for a release, its product and the contract.
    function _state(bytes32 product, uint64 version) private view returns (bytes32) {
        IBlockOTA.ProductRecord memory productRecord = _record.productRecord(product);
        IBlockOTA.ReleaseRecord memory release = _record.release(product, version);
        address[2] memory owners = [_record.owner(), _record.pendingOwner()];
        return keccak256(abi.encode(productRecord, release, owners, _record.paused()));
    }
}
