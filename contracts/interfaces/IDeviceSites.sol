// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.28;

/// @title Sites and their blocks of device numbers
/// @notice A site is a gateway, named by the UUID of its identity. The city's Safe gives a site blocks of 256 numbers,
/// and each device that is registered at the site gets the next of these numbers.
/// @dev Part of `IDeviceRegistry`. The block of a number is number / 256. Blocks are counted from 1, so the first number
/// is 256 and the number 0 means "not registered".
interface IDeviceSites {
    /// @notice A site as returned by the getters.
    /// @param uuid UUID of the gateway; 0 if the site has no blocks.
    /// @param given Quantity of numbers that the Safe gave to the site.
    /// @param left Quantity of numbers that new devices can still get. Numbers that a batch skipped are not counted.
    struct Site {
        bytes16 uuid;
        uint64 given;
        uint64 left;
    }

    /// @notice The Safe gave a site `count` blocks from the block `first` on.
    event BlocksGiven(bytes16 indexed site, uint64 first, uint32 count);

    /// @notice The Safe gave all blocks of a site, with their devices, to another gateway.
    event SiteReplaced(bytes16 indexed from, bytes16 indexed to);

    /// @notice The UUID is not that of an active gateway.
    error NotAGateway(bytes16 site);

    /// @notice The quantity of blocks is 0 or above `limit`.
    error BlockCountInvalid(uint32 count, uint32 limit);

    /// @notice The site has no blocks.
    error SiteUnknown(bytes16 site);

    /// @notice The site has blocks of its own.
    error SiteKnown(bytes16 site);

    /// @notice The site has no `count` consecutive numbers left.
    error NumbersMissing(bytes16 site, uint64 count);

    /// @notice Gives a site the next free blocks.
    /// @param site UUID of a gateway.
    /// @param count Quantity of blocks, 1 to 1,024.
    /// @dev Emits `BlocksGiven`. Only the owner may call it. Reverts with `BlockCountInvalid` or `NotAGateway`.
    function giveBlocks(bytes16 site, uint32 count) external;

    /// @notice Gives all blocks of a site, with their devices, to another gateway, which replaces the first one.
    /// @param from UUID of the site that is replaced, which may be retired.
    /// @param to UUID of a gateway without blocks.
    /// @dev Emits `SiteReplaced`. Only the owner may call it. Reverts with `SiteUnknown`, `SiteKnown` or `NotAGateway`.
    function replaceSite(bytes16 from, bytes16 to) external;

    /// @notice Returns whether each of the blocks belongs to a site.
    /// @param site UUID of the site.
    /// @param words Blocks: each is the number of a device divided by 256.
    /// @return answer True if each block belongs to the site. False for a site without blocks.
    function ownsBlocks(bytes16 site, uint256[] calldata words) external view returns (bool answer);

    /// @notice Returns the site whose block contains a number.
    /// @param number Number of a device.
    /// @return uuid UUID of the site; 0 if the block was not given.
    function siteOf(uint64 number) external view returns (bytes16 uuid);

    /// @notice Returns a site.
    /// @param uuid UUID of the site.
    /// @return record The site, or an empty record.
    function site(bytes16 uuid) external view returns (Site memory record);

    /// @notice Returns a page of all sites in the order of their first blocks.
    /// @param from Number of sites to skip.
    /// @param count Maximum number of records.
    /// @return records The page.
    function sites(uint256 from, uint256 count) external view returns (Site[] memory records);

    /// @notice Quantity of blocks given to all sites. Equals the greatest block.
    /// @return count Quantity of blocks.
    function blockCount() external view returns (uint64 count);
}
