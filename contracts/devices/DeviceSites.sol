// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.28;

import {Ownable2Step} from "@openzeppelin/contracts/access/Ownable2Step.sol";

import {IDeviceSites} from "../interfaces/IDeviceSites.sol";
import {IIdentityRegistry} from "../interfaces/IIdentityRegistry.sol";

/// @title Sites and their blocks of device numbers
/// @notice See `IDeviceSites`, which is the specification.
abstract contract DeviceSites is IDeviceSites, Ownable2Step {
    /// @dev The free numbers of the range in use are `next` to `end - 1`. `opened` is the number of the site's ranges
    /// that are or were in use.
    struct SiteEntry {
        uint32 index;
        uint32 opened;
        uint64 next;
        uint64 end;
    }

    /// @dev The numbers from `first` to `end - 1`.
    struct Range {
        uint64 first;
        uint64 end;
    }

    uint32 private constant BLOCKS_LIMIT = 1024;

    address internal immutable _identities;

    /// @inheritdoc IDeviceSites
    uint64 public blockCount;

    mapping(bytes16 uuid => SiteEntry) internal _sites;
    /// @dev UUIDs by index. The index 0 belongs to no site.
    bytes16[] private _siteUuids = [bytes16(0)];
    mapping(uint32 index => Range[]) private _ranges;
    /// @dev The index of the site of each block: 32 bits each, the block's own at bit 32 * (block % 8).
    mapping(uint256 word => uint256) private _siteIndexes;

    /// @inheritdoc IDeviceSites
    function giveBlocks(bytes16 site_, uint32 count) external onlyOwner {
        require(count != 0 && count <= BLOCKS_LIMIT, BlockCountInvalid(count, BLOCKS_LIMIT));
        _requireGateway(site_);

        uint32 index = _sites[site_].index;
        if (index == 0) {
            index = uint32(_siteUuids.length);
            _sites[site_].index = index;
            _siteUuids.push(site_);
        }
        uint64 first = blockCount + 1;
        uint64 end = first + count;
        for (uint64 i = first; i < end; ++i) {
            _siteIndexes[i / 8] |= uint256(index) << (32 * (i % 8));
        }
        _ranges[index].push(Range(first * 256, end * 256));
        blockCount = end - 1;

        emit BlocksGiven(site_, first, count);
    }

    /// @inheritdoc IDeviceSites
    function replaceSite(bytes16 from, bytes16 to) external onlyOwner {
        require(_sites[from].index != 0, SiteUnknown(from));
        require(_sites[to].index == 0, SiteKnown(to));
        _requireGateway(to);

        SiteEntry memory entry = _sites[from];
        _sites[to] = entry;
        delete _sites[from];
        _siteUuids[entry.index] = to;

        emit SiteReplaced(from, to);
    }

    /// @inheritdoc IDeviceSites
    function ownsBlocks(bytes16 site_, uint256[] calldata words) external view returns (bool) {
        uint256 index = _sites[site_].index;
        if (index == 0) return false;
        // Eight blocks share a storage word, which is read once for neighbours.
        (uint256 place, uint256 indexes) = (type(uint256).max, 0);
        for (uint256 i = 0; i < words.length; ++i) {
            uint256 word = words[i];
            if (word / 8 != place) {
                place = word / 8;
                indexes = _siteIndexes[place];
            }
            if (uint32(indexes >> (32 * (word % 8))) != index) return false;
        }
        return true;
    }

    /// @inheritdoc IDeviceSites
    function siteOf(uint64 number) public view returns (bytes16) {
        return _siteUuids[_indexOf(number / 256)];
    }

    /// @inheritdoc IDeviceSites
    function site(bytes16 uuid) public view returns (Site memory record) {
        SiteEntry memory entry = _sites[uuid];
        if (entry.index == 0) return record;
        record.uuid = uuid;
        record.left = entry.end - entry.next;
        Range[] storage ranges = _ranges[entry.index];
        for (uint256 i = 0; i < ranges.length; ++i) {
            uint64 length = ranges[i].end - ranges[i].first;
            record.given += length;
            if (i >= entry.opened) record.left += length;
        }
    }

    /// @inheritdoc IDeviceSites
    function sites(uint256 from, uint256 count) external view returns (Site[] memory records) {
        uint256 total = _siteUuids.length - 1;
        uint256 left = from < total ? total - from : 0;
        records = new Site[](count < left ? count : left);
        for (uint256 i = 0; i < records.length; ++i) {
            records[i] = site(_siteUuids[1 + from + i]);
        }
    }

    /// @dev Takes the next `count` consecutive numbers of a site. The rest of a range that has fewer is not used.
    function _take(bytes16 site_, uint64 count) internal returns (uint64 first) {
        SiteEntry memory entry = _sites[site_];
        require(entry.index != 0, SiteUnknown(site_));
        Range[] storage ranges = _ranges[entry.index];
        while (entry.end - entry.next < count) {
            require(entry.opened < ranges.length, NumbersMissing(site_, count));
            (entry.next, entry.end) = (ranges[entry.opened].first, ranges[entry.opened].end);
            ++entry.opened;
        }

        first = entry.next;
        entry.next += count;
        _sites[site_] = entry;
    }

    function _indexOf(uint256 word) internal view returns (uint32) {
        return uint32(_siteIndexes[word / 8] >> (32 * (word % 8)));
    }

    function _requireGateway(bytes16 site_) private view {
        (IIdentityRegistry.Kind kind, bool active) = IIdentityRegistry(_identities).kindOf(site_);
        require(active && kind == IIdentityRegistry.Kind.Gateway, NotAGateway(site_));
    }
}
