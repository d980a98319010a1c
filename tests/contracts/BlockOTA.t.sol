// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.28;

import {IBlockOTA} from "../../contracts/interfaces/IBlockOTA.sol";
import {BlockOTAHandler} from "./BlockOTAHandler.sol";
import {ForgeTest, IWholeBlockOTA} from "./Forge.sol";

/// @title The numbered invariants of BlockOTA, checked after random calls of the handler
contract BlockOTAInvariants is ForgeTest {
    BlockOTAHandler private _handler;
    IWholeBlockOTA private _record;

    function setUp() external {
        _handler = new BlockOTAHandler();
        _record = _handler.record();
    }

    /// @notice Restricts Foundry to calls of the handler.
    function targetContracts() external view returns (address[] memory targets) {
        targets = new address[](1);
        targets[0] = address(_handler);
    }

    /// @notice A fixed sequence of actions, so that coverage does not depend on the seed.
    function test_theInvariantsHoldAlongAWalk() external {
        for (uint256 i = 0; i < 240; ++i) {
            _step(_mix(i, "action"), _mix(i, "who"), _mix(i, "which"), _mix(i, "seed"));
            if (i % 20 != 0) continue;
            this.invariant_B1_aRecordNeverChangesButToRevoked();
            this.invariant_B2_versionsAscendAndNoImageRepeats();
            this.invariant_B3_latestIsTheGreatestNotRevoked();
            this.invariant_B4_theFloorOnlyRisesAndHolds();
            this.invariant_B5_everyImageLayInItsRegion();
            this.invariant_B6_theOwnerChangesInTwoStepsAndIsNeverMissing();
            this.invariant_B7_whilePausedNothingIsPublished();
            this.invariant_B8_authenticIsJustWhatWasPublishedAndIsActive();
            this.invariant_B9_pagesTogetherAreEverything();
        }
    }

    function invariant_B1_aRecordNeverChangesButToRevoked() external view {
        for (uint256 p = 0; p < 3; ++p) {
            bytes32 product = _handler.products(p);
            for (uint256 i = 0; i < _handler.count(product); ++i) {
                bytes32 stored = keccak256(abi.encode(_record.release(product, _entry(p, i).release.version)));
                require(stored == keccak256(abi.encode(_expected(_entry(p, i)))), "B1: by version");
                stored = keccak256(abi.encode(_record.find(product, _entry(p, i).release.sha256)));
                require(stored == keccak256(abi.encode(_expected(_entry(p, i)))), "B1: by image");
            }
        }
    }

    function invariant_B2_versionsAscendAndNoImageRepeats() external view {
        for (uint256 p = 0; p < 3; ++p) {
            IBlockOTA.ReleaseRecord[] memory records = _record.history(_handler.products(p), 0, type(uint256).max);
            for (uint256 i = 0; i < records.length; ++i) {
                require(i == 0 || records[i].version < records[i - 1].version, "B2: versions");
                require(i == 0 || records[i].version == records[i - 1].previous, "B2: links");
                for (uint256 j = 0; j < i; ++j) require(records[i].sha256 != records[j].sha256, "B2: images");
            }
        }
    }

    function invariant_B3_latestIsTheGreatestNotRevoked() external view {
        for (uint256 p = 0; p < 3; ++p) {
            uint64 greatest = 0;
            for (uint256 i = 0; i < _handler.count(_handler.products(p)); ++i) {
                if (!_entry(p, i).revoked) greatest = _entry(p, i).release.version;
            }
            require(_record.latest(_handler.products(p)).version == greatest, "B3");
        }
    }

    function invariant_B4_theFloorOnlyRisesAndHolds() external view {
        for (uint256 p = 0; p < 3; ++p) {
            bytes32 product = _handler.products(p);
            uint64 floor = _handler.pairing(product).floor;
            require(_record.productRecord(product).minimumVersion == floor, "B4: floor");
            uint64 before = 0;
            for (uint256 i = 0; i < _handler.count(product); ++i) {
                BlockOTAHandler.Published memory entry = _entry(p, i);
                require(entry.floor >= before && entry.floor <= floor, "B4: fell");
                require(entry.release.version >= entry.floor, "B4: below");
                before = entry.floor;
            }
        }
    }

    function invariant_B5_everyImageLayInItsRegion() external view {
        for (uint256 p = 0; p < 3; ++p) {
            for (uint256 i = 0; i < _handler.count(_handler.products(p)); ++i) {
                BlockOTAHandler.Published memory entry = _entry(p, i);
                IBlockOTA.ReleaseRecord memory stored = _record.find(_handler.products(p), entry.release.sha256);
                uint256 end = uint256(stored.loadAddress) + stored.size;
                require(stored.size != 0 && stored.loadAddress >= entry.flashStart, "B5: start");
                require(end <= uint256(entry.flashStart) + entry.flashSize && end <= 1 << 32, "B5: end");
                require((stored.dagRoot != 0) == (stored.size > 1_048_576), "B5: DAG root");
            }
        }
    }

    function invariant_B6_theOwnerChangesInTwoStepsAndIsNeverMissing() external view {
        require(_record.owner() == _handler.owner() && _record.owner() != address(0), "B6: owner");
        require(_record.pendingOwner() == _handler.pending(), "B6: pending owner");
    }

    function invariant_B7_whilePausedNothingIsPublished() external view {
        require(_record.paused() == _handler.paused(), "B7: pause");
        for (uint256 p = 0; p < 3; ++p) {
            uint256 total = _handler.count(_handler.products(p));
            require(total == _record.history(_handler.products(p), 0, 1_000).length, "B7: published");
            for (uint256 i = 0; i < total; ++i) require(!_entry(p, i).paused, "B7: while paused");
        }
    }

    function invariant_B8_authenticIsJustWhatWasPublishedAndIsActive() external view {
        for (uint256 p = 0; p < 3; ++p) {
            bytes32 product = _handler.products(p);
            uint256 total = _handler.count(product);
            for (uint256 i = 0; i < total; ++i) {
                BlockOTAHandler.Published memory entry = _entry(p, i);
                (uint64 version, bytes32 digest) = (entry.release.version, entry.release.sha256);
                bool authentic = !entry.revoked && entry.activeFrom <= block.timestamp;
                require(_record.isAuthentic(product, version, digest) == authentic, "B8");
                require(!_record.isAuthentic(product, version, ~digest), "B8: another image");
                require(!_record.isAuthentic(product, version + 1, digest), "B8: another version");
                require(!_record.isAuthentic(~product, version, digest), "B8: another product");
            }
        }
    }

    function invariant_B9_pagesTogetherAreEverything() external view {
        for (uint256 p = 0; p < 3; ++p) {
            bytes32 product = _handler.products(p);
            (uint64 from, uint256 left) = (0, _handler.count(product));
            while (left != 0) {
                IBlockOTA.ReleaseRecord[] memory page = _record.history(product, from, 3);
                require(page.length == (left < 3 ? left : 3), "B9: length");
                for (uint256 i = 0; i < page.length; ++i) {
                    require(page[i].version == _entry(p, --left).release.version, "B9: order");
                    from = page[i].previous;
                }
            }
            require(_handler.count(product) == 0 || from == 0, "B9: end");
        }
        _requireAllProducts();
    }

    function _step(uint256 action, uint256 who, uint256 which, uint256 seed) private {
        action %= 14;
        if (action < 5) _handler.publish(who, which, seed);
        else if (action == 5) _handler.revoke(who, which, seed, "bricks boards");
        else if (action == 6) _handler.raise(who, which, seed);
        else if (action == 7) _handler.pair(who, which, seed);
        else if (action == 8) _handler.unpair(who, which);
        else if (action == 9) _handler.pause(seed);
        else if (action == 10) _handler.resume(who);
        else if (action == 11) _handler.transfer(who, seed);
        else if (action == 12) _handler.takeOver(seed);
        else _handler.renounce(seed);
        _handler.warp(uint24(seed >> 8));
    }

    function _requireAllProducts() private view {
        IBlockOTA.ProductRecord[] memory all = _record.products(0, type(uint256).max);
        require(all.length == _handler.pairedEver(), "B9: products");
        for (uint256 i = 0; i < all.length; ++i) {
            BlockOTAHandler.Pairing memory wanted = _handler.pairing(all[i].product);
            require(all[i].product == _handler.everPaired(i) && all[i].oem == wanted.oem, "B9: names");
            require(all[i].paired == wanted.paired && all[i].chipId == wanted.chipId, "B9: pairing");
            require(all[i].flashStart == wanted.flashStart && all[i].flashSize == wanted.flashSize, "B9: region");
            uint256 total = _handler.count(all[i].product);
            uint64 head = 0;
            if (total != 0) head = _handler.published(all[i].product, total - 1).release.version;
            require(all[i].head == head, "B9: head");
        }
    }

    function _entry(uint256 which, uint256 place) private view returns (BlockOTAHandler.Published memory) {
        return _handler.published(_handler.products(which), place);
    }

    /// @dev Returns the record expected after a publication.
    function _expected(
        BlockOTAHandler.Published memory entry
    ) private pure returns (IBlockOTA.ReleaseRecord memory record) {
        record.product = entry.release.product;
        record.version = entry.release.version;
        record.previous = entry.previous;
        record.sha256 = entry.release.sha256;
        record.size = entry.release.size;
        record.loadAddress = entry.release.loadAddress;
        record.activeFrom = entry.activeFrom;
        record.chipId = entry.chipId;
        record.status = entry.revoked ? IBlockOTA.Status.Revoked : IBlockOTA.Status.Active;
        record.dagRoot = entry.release.dagRoot;
    }
}
