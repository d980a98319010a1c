// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.28;

import {Ownable} from "@openzeppelin/contracts/access/Ownable.sol";
import {Pausable} from "@openzeppelin/contracts/utils/Pausable.sol";

import {IBlockOTA} from "../../contracts/interfaces/IBlockOTA.sol";
import {ForgeTest, IWholeBlockOTA} from "./Forge.sol";

/// @title Handler for the invariant tests of BlockOTA: every action, and a model of the expected state
/// @notice Foundry calls these functions in random order. Each derives from the model whether the contract must revert
/// and with which error, calls the contract, and updates the model.
/// @dev Initially this contract owns BlockOTA and acts as a Safe whose only owner is `people[1]`.
contract BlockOTAHandler is ForgeTest {
    /// @dev A release as published, and the state at that time.
    struct Published {
        IBlockOTA.Release release;
        uint64 previous;
        uint16 chipId;
        uint40 activeFrom;
        bool revoked;
        bool paused;
        uint64 floor;
        uint32 flashStart;
        uint32 flashSize;
    }

    /// @dev The expected state of a product.
    struct Pairing {
        bytes32 oem;
        bool paired;
        uint16 chipId;
        uint32 flashStart;
        uint32 flashSize;
        uint64 floor;
    }

    IWholeBlockOTA public immutable record;

    address public owner = address(this);
    address public pending;
    bool public paused;
    bytes32[3] public products = [bytes32("acme-thermo2"), "acme-thermo2-cfg", "acme-pump"];
    address[4] public people = [address(this), address(0xA), address(0xB), address(0xC)];
    bytes32[] public everPaired;

    mapping(bytes32 product => Pairing) internal _pairings;
    mapping(bytes32 product => Published[]) internal _published;

    constructor() {
        vm.warp(1_700_000_000);
        record = _deployBlockOTA(address(this));
        for (uint256 i = 0; i < 2; ++i) pair(0, i, i);
    }

    /// @notice The function of a Safe that BlockOTA calls.
    function isOwner(address account) external view returns (bool) {
        return account == people[1];
    }

    /// @notice Publishes none, one or two releases, usually after making the call valid.
    function publish(uint256 who, uint256 which, uint256 seed) external {
        if (paused && seed % 7 != 0) resume(1);
        if (!_pairings[products[which % 3]].paired && seed % 5 != 0) pair(1, which, seed);
        uint8[8] memory numbers = [1, 1, 1, 1, 1, 2, 2, 0];
        IBlockOTA.Release[] memory releases = new IBlockOTA.Release[](numbers[seed % 8]);
        bytes memory refusal;
        if (paused) refusal = abi.encodeWithSelector(Pausable.EnforcedPause.selector);
        else if (releases.length == 0) refusal = abi.encodeWithSelector(IBlockOTA.NothingToPublish.selector);
        refusal = _owned(_sender(who), refusal);

        uint256 remembered = 0;
        for (uint256 i = 0; i < releases.length; ++i) {
            releases[i] = _release(which, _mix(seed, i == 0 ? "first" : "second"));
            if (refusal.length == 0) refusal = _refusal(releases[i]);
            if (refusal.length != 0) continue;
            _remember(releases[i]);
            ++remembered;
        }
        if (refusal.length != 0) for (; remembered != 0; --remembered) _published[products[which % 3]].pop();
        _expect(_sender(who), address(record), abi.encodeCall(record.publish, (releases)), refusal);
    }

    /// @notice Revokes a release that may not exist.
    function revoke(uint256 who, uint256 which, uint256 seed, string calldata reason) external {
        bytes32 product = products[which % 3];
        uint256 total = _published[product].length;
        uint256 place = _pick(seed, 0, total);
        uint64 version = place < total ? _published[product][place].release.version : _head(product) + uint64(seed % 9);
        place = _find(product, version);
        bytes memory refusal;
        if (place == total) {
            refusal = abi.encodeWithSelector(IBlockOTA.ReleaseUnknown.selector, product, version);
        } else if (_published[product][place].revoked) {
            refusal = abi.encodeWithSelector(IBlockOTA.ReleaseAlreadyRevoked.selector, product, version);
        }
        refusal = _owned(_sender(who), refusal);
        if (refusal.length == 0) _published[product][place].revoked = true;
        _expect(_sender(who), address(record), abi.encodeCall(record.revoke, (product, version, reason)), refusal);
    }

    /// @notice Sets a floor that is usually slightly above the present one.
    function raise(uint256 who, uint256 which, uint256 seed) external {
        bytes32 product = products[which % 3];
        Pairing storage present = _pairings[product];
        uint64 version = uint64(_pick(seed, 0, present.floor + 6));
        bytes memory refusal;
        if (!present.paired) {
            refusal = abi.encodeWithSelector(IBlockOTA.ProductNotPaired.selector, product);
        } else if (version <= present.floor) {
            refusal = abi.encodeWithSelector(
                IBlockOTA.MinimumVersionNotRaised.selector,
                product,
                version,
                present.floor
            );
        }
        refusal = _owned(_sender(who), refusal);
        if (refusal.length == 0) present.floor = version;
        _expect(_sender(who), address(record), abi.encodeCall(record.setMinimumVersion, (product, version)), refusal);
    }

    /// @notice Pairs regions of 64 KiB to 4 MiB, so that some images need a DAG root.
    function pair(uint256 who, uint256 which, uint256 seed) public {
        bytes32 product = products[which % 3];
        Pairing memory wanted = _pairings[product];
        (wanted.oem, wanted.paired, wanted.chipId) = (bytes32("ACME"), true, uint16(seed));
        wanted.flashStart = uint32(0x0800_0000 + (seed % 3) * 0x100);
        wanted.flashSize = uint32(0x1_0000 << (seed % 7));
        bytes memory refusal = _owned(_sender(who), "");
        if (refusal.length == 0) {
            if (_pairings[product].oem == 0) everPaired.push(product);
            _pairings[product] = wanted;
        }
        bytes memory call = abi.encodeCall(
            record.pairOem,
            (product, wanted.oem, wanted.chipId, wanted.flashStart, wanted.flashSize)
        );
        _expect(_sender(who), address(record), call, refusal);
    }

    /// @notice Unpairs a product that may not be paired.
    function unpair(uint256 who, uint256 which) external {
        bytes32 product = products[which % 3];
        bytes memory refusal;
        if (!_pairings[product].paired) {
            refusal = abi.encodeWithSelector(IBlockOTA.ProductNotPaired.selector, product);
        }
        refusal = _owned(_sender(who), refusal);
        if (refusal.length == 0) _pairings[product].paired = false;
        _expect(_sender(who), address(record), abi.encodeCall(record.unpairOem, (product)), refusal);
    }

    /// @notice Pauses as any account.
    function pause(uint256 seed) external {
        address sender = people[seed % 4];
        bool allowed = sender == owner || (owner == people[0] && sender == people[1]);
        bytes memory refusal;
        if (!allowed) refusal = abi.encodeWithSelector(IBlockOTA.PausingNotAllowed.selector, sender);
        else if (paused) refusal = abi.encodeWithSelector(Pausable.EnforcedPause.selector);
        if (refusal.length == 0) paused = true;
        _expect(sender, address(record), abi.encodeCall(record.pause, ()), refusal);
    }

    /// @notice Resumes in either state.
    function resume(uint256 who) public {
        bytes memory refusal = paused ? bytes("") : abi.encodeWithSelector(Pausable.ExpectedPause.selector);
        refusal = _owned(_sender(who), refusal);
        if (refusal.length == 0) paused = false;
        _expect(_sender(who), address(record), abi.encodeCall(record.resume, ()), refusal);
    }

    /// @notice Transfers the ownership to any account.
    function transfer(uint256 who, uint256 to) external {
        bytes memory refusal = _owned(_sender(who), "");
        if (refusal.length == 0) pending = people[to % 4];
        _expect(_sender(who), address(record), abi.encodeCall(record.transferOwnership, (people[to % 4])), refusal);
    }

    /// @notice Accepts as the pending owner or another account.
    function takeOver(uint256 seed) external {
        address sender = pending != address(0) && seed % 4 != 0 ? pending : people[seed % 4];
        bytes memory refusal;
        if (sender != pending) refusal = abi.encodeWithSelector(Ownable.OwnableUnauthorizedAccount.selector, sender);
        if (refusal.length == 0) (owner, pending) = (sender, address(0));
        _expect(sender, address(record), abi.encodeCall(record.acceptOwnership, ()), refusal);
    }

    /// @notice Renouncing is always refused.
    function renounce(uint256 seed) external {
        bytes memory refusal = abi.encodeWithSelector(IBlockOTA.RenouncingRefused.selector);
        _expect(people[seed % 4], address(record), abi.encodeCall(record.renounceOwnership, ()), refusal);
    }

    /// @notice Advances the time by at most half a year.
    function warp(uint24 time) external {
        vm.warp(block.timestamp + time);
    }

    /// @notice Returns the number of published releases of a product.
    function count(bytes32 product) external view returns (uint256) {
        return _published[product].length;
    }

    /// @notice Returns a published release by its index.
    function published(bytes32 product, uint256 place) external view returns (Published memory) {
        return _published[product][place];
    }

    /// @notice Returns the expected pairing and floor of a product.
    function pairing(bytes32 product) external view returns (Pairing memory) {
        return _pairings[product];
    }

    /// @notice Returns the number of products ever paired.
    function pairedEver() external view returns (uint256) {
        return everPaired.length;
    }

    /// @dev Returns an account, usually the owner.
    function _sender(uint256 who) private view returns (address) {
        return who % 8 == 0 ? people[(who / 8) % 4] : owner;
    }

    /// @dev Authority is checked before anything else.
    function _owned(address sender, bytes memory refusal) private view returns (bytes memory) {
        if (sender == owner) return refusal;
        return abi.encodeWithSelector(Ownable.OwnableUnauthorizedAccount.selector, sender);
    }

    /// @dev Returns a release that is usually valid.
    function _release(uint256 which, uint256 seed) private view returns (IBlockOTA.Release memory item) {
        item.product = products[which % 3];
        Pairing storage present = _pairings[item.product];
        uint64 head = _head(item.product);
        item.version = seed % 5 == 0 ? uint64(_pick(seed, 0, head)) : head + uint64(_pick(seed, 1, 3));
        item.sha256 = keccak256(abi.encode(_pick(_mix(seed, "image"), 0, 40)));
        if (_mix(seed, "digest") % 32 == 0) item.sha256 = 0;
        item.size = _size(_mix(seed, "size"), present.flashSize);
        uint256 room = item.size < present.flashSize ? present.flashSize - item.size : 0;
        item.loadAddress = present.flashStart + uint32(_pick(_mix(seed, "place"), 0, room));
        if (_mix(seed, "outside") % 16 == 0) item.loadAddress = uint32(_mix(seed, "anywhere"));
        item.activeFrom = uint40(_pick(_mix(seed, "time"), block.timestamp - 1 days, block.timestamp + 1 days));
        item.dagRoot = (item.size > 1 << 20) == (_mix(seed, "root") % 8 != 0) ? keccak256("root") : bytes32(0);
        item.manifest = bytes32(seed);
    }

    /// @dev Returns a size at or between the boundary values.
    function _size(uint256 seed, uint32 flashSize) private pure returns (uint32) {
        uint32[8] memory edges = [0, 1, 1 << 20, (1 << 20) + 1, flashSize, flashSize + 1, type(uint32).max, 60_000];
        return seed % 3 == 0 ? edges[(seed / 3) % 8] : uint32(_pick(seed, 1, flashSize == 0 ? 1 : flashSize));
    }

    /// @dev Returns the expected error for a release; the order of the checks is that of the specification.
    function _refusal(IBlockOTA.Release memory item) private view returns (bytes memory) {
        (bytes32 product, uint64 version) = (item.product, item.version);
        Pairing storage present = _pairings[product];
        if (!present.paired) return abi.encodeWithSelector(IBlockOTA.ProductNotPaired.selector, product);
        if (version <= _head(product)) {
            return abi.encodeWithSelector(IBlockOTA.VersionNotNewer.selector, product, version, _head(product));
        }
        if (version < present.floor) {
            return abi.encodeWithSelector(IBlockOTA.VersionBelowMinimum.selector, product, version, present.floor);
        }
        if (item.sha256 == 0) return abi.encodeWithSelector(IBlockOTA.DigestMissing.selector, product, version);
        for (uint256 i = 0; i < _published[product].length; ++i) {
            IBlockOTA.Release storage other = _published[product][i].release;
            if (other.sha256 != item.sha256) continue;
            bytes4 selector = IBlockOTA.ImageAlreadyPublished.selector;
            return abi.encodeWithSelector(selector, product, item.sha256, other.version);
        }
        return _misfit(item);
    }

    function _misfit(IBlockOTA.Release memory item) private view returns (bytes memory) {
        (uint256 low, uint256 high) = (item.loadAddress, uint256(item.loadAddress) + item.size);
        (uint256 start, uint256 size) = (_pairings[item.product].flashStart, _pairings[item.product].flashSize);
        if (item.size == 0) return abi.encodeWithSelector(IBlockOTA.ImageEmpty.selector, item.product, item.version);
        if (low < start || high > start + size) {
            bytes4 selector = IBlockOTA.ImageOutsideRegion.selector;
            return abi.encodeWithSelector(selector, item.product, item.loadAddress, item.size, start, size);
        }
        if ((item.size > 1_048_576) == (item.dagRoot != 0)) return "";
        bytes4 mismatch = IBlockOTA.DagRootMismatch.selector;
        return abi.encodeWithSelector(mismatch, item.product, item.version, item.size, item.dagRoot);
    }

    function _remember(IBlockOTA.Release memory item) private {
        Pairing storage present = _pairings[item.product];
        uint64 previous = _head(item.product);
        Published storage entry = _published[item.product].push();
        entry.release = item;
        entry.previous = previous;
        entry.chipId = present.chipId;
        entry.activeFrom = item.activeFrom > block.timestamp ? item.activeFrom : uint40(block.timestamp);
        entry.paused = record.paused();
        entry.floor = present.floor;
        entry.flashStart = present.flashStart;
        entry.flashSize = present.flashSize;
    }

    function _head(bytes32 product) private view returns (uint64) {
        uint256 length = _published[product].length;
        return length == 0 ? 0 : _published[product][length - 1].release.version;
    }

    /// @dev Returns the index of a version among a product's releases, or their number if not found.
    function _find(bytes32 product, uint64 version) private view returns (uint256 place) {
        while (place < _published[product].length && _published[product][place].release.version != version) ++place;
    }
}
